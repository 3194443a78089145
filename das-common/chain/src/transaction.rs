//! Transactions of the batch poster (EIP-1559).

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};

/// A transaction with an empty access list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eip1559 {
    /// EIP-155 id.
    pub chain_id: u64,
    /// Of the account.
    pub nonce: u64,
    /// Wei per gas.
    pub max_priority_fee_per_gas: u128,
    /// Wei per gas.
    pub max_fee_per_gas: u128,
    /// Gas.
    pub gas_limit: u64,
    /// Whom it calls.
    pub to: Address,
    /// Wei.
    pub value: U256,
    /// The call.
    pub data: Bytes,
}

/// A transaction as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTransaction {
    /// Its bytes.
    pub raw: Bytes,
    /// Names it.
    pub hash: B256,
}

fn header(out: &mut Vec<u8>, offset: u8, length: usize) {
    if length < 56 {
        out.push(offset + length as u8);
    } else {
        let digits = length.to_be_bytes();
        let skip = digits.iter().take_while(|digit| **digit == 0).count();
        out.push(offset + 55 + (digits.len() - skip) as u8);
        out.extend_from_slice(&digits[skip..]);
    }
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes {
        [byte] if *byte < 0x80 => out.push(*byte),
        _ => {
            header(out, 0x80, bytes.len());
            out.extend_from_slice(bytes);
        }
    }
}

fn number(out: &mut Vec<u8>, number: impl Into<U256>) {
    let digits = number.into().to_be_bytes::<32>();
    let skip = digits.iter().take_while(|digit| **digit == 0).count();
    text(out, &digits[skip..]);
}

impl Eip1559 {
    fn encode(&self, signature: Option<(u8, &[u8], &[u8])>) -> Vec<u8> {
        let mut fields = Vec::with_capacity(self.data.len() + 200);
        number(&mut fields, U256::from(self.chain_id));
        number(&mut fields, U256::from(self.nonce));
        number(&mut fields, U256::from(self.max_priority_fee_per_gas));
        number(&mut fields, U256::from(self.max_fee_per_gas));
        number(&mut fields, U256::from(self.gas_limit));
        text(&mut fields, self.to.as_slice());
        number(&mut fields, self.value);
        text(&mut fields, &self.data);
        fields.push(0xc0);
        if let Some((parity, r, s)) = signature {
            number(&mut fields, U256::from(parity));
            number(&mut fields, U256::from_be_slice(r));
            number(&mut fields, U256::from_be_slice(s));
        }
        let mut out = vec![2];
        header(&mut out, 0xc0, fields.len());
        out.extend_from_slice(&fields);
        out
    }

    /// What is signed.
    pub fn signing_hash(&self) -> B256 {
        keccak256(self.encode(None))
    }

    pub(crate) fn signed(&self, parity: u8, r: &[u8], s: &[u8]) -> SignedTransaction {
        let raw = self.encode(Some((parity, r, s)));
        SignedTransaction { hash: keccak256(&raw), raw: raw.into() }
    }
}
