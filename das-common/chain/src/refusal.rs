//! Why a node does not take a transaction, read from its words: there are no codes for it.

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It has this very transaction.
    AlreadyKnown,
    /// The account has used the nonce in a block.
    NonceTooLow,
    /// Transactions before it are missing.
    NonceTooHigh,
    /// There is another transaction with this nonce, and this one does not offer enough more.
    ReplacementUnderpriced,
    /// It offers less than the node asks of any transaction.
    Underpriced,
    /// The account cannot pay for it.
    InsufficientFunds,
    /// It offers less than the base fee of the next block.
    BelowBaseFee,
    /// Its gas limit is above what a block, a transaction or a call may use.
    GasTooHigh,
    /// Its gas limit is below what it uses at least.
    GasTooLow,
    /// It may cost more than the node sends on.
    AboveFeeCap,
    /// There is no room for it.
    PoolFull,
    /// It has more bytes than the node takes.
    TooLarge,
    /// It was signed for another chain.
    WrongChain,
    /// None of these.
    Other,
}

/// Words by which the reasons are known, in lower case and without all but letters and digits: of geth, Erigon, Nethermind,
/// Besu, Reth, Nitro, Anvil and those like them. The first one that occurs counts.
const WORDS: &[(&str, Refusal)] = &[
    ("unknowntransaction", Refusal::Other),
    ("alreadyknown", Refusal::AlreadyKnown),
    ("knowntransaction", Refusal::AlreadyKnown),
    ("alreadyimported", Refusal::AlreadyKnown),
    ("alreadyinmempool", Refusal::AlreadyKnown),
    ("alreadyinthemempool", Refusal::AlreadyKnown),
    ("futuretransactiontriestoreplace", Refusal::PoolFull),
    ("replacement", Refusal::ReplacementUnderpriced),
    ("couldnotreplace", Refusal::ReplacementUnderpriced),
    ("anothertransactionwithsamenonce", Refusal::ReplacementUnderpriced),
    ("noncetoolow", Refusal::NonceTooLow),
    ("nonceistoolow", Refusal::NonceTooLow),
    ("oldnonce", Refusal::NonceTooLow),
    ("noncetoohigh", Refusal::NonceTooHigh),
    ("nonceistoohigh", Refusal::NonceTooHigh),
    ("noncegap", Refusal::NonceTooHigh),
    ("toofarinthefuture", Refusal::NonceTooHigh),
    ("toodistant", Refusal::NonceTooHigh),
    ("insufficientfunds", Refusal::InsufficientFunds),
    ("insufficientbalance", Refusal::InsufficientFunds),
    ("insufficientsenderbalance", Refusal::InsufficientFunds),
    ("upfrontcostexceeds", Refusal::InsufficientFunds),
    ("lessthanblockbasefee", Refusal::BelowBaseFee),
    ("lessthanthecurrentbasefee", Refusal::BelowBaseFee),
    ("belowcurrentbasefee", Refusal::BelowBaseFee),
    ("belowbasefee", Refusal::BelowBaseFee),
    ("exceedstheconfiguredcap", Refusal::AboveFeeCap),
    ("feecapexceeded", Refusal::AboveFeeCap),
    ("blockgaslimit", Refusal::GasTooHigh),
    ("gaslimitexceeded", Refusal::GasTooHigh),
    ("gaslimittoohigh", Refusal::GasTooHigh),
    ("gasrequiredexceedsallowance", Refusal::GasTooHigh),
    ("intrinsicgas", Refusal::GasTooLow),
    ("floordatagas", Refusal::GasTooLow),
    ("gaslimittoolow", Refusal::GasTooLow),
    ("outofgas", Refusal::GasTooLow),
    ("callgascostexceeds", Refusal::GasTooLow),
    ("poolisfull", Refusal::PoolFull),
    ("feetoolowtocompete", Refusal::PoolFull),
    ("accountlimitexceeded", Refusal::PoolFull),
    ("limitreached", Refusal::PoolFull),
    ("oversizeddata", Refusal::TooLarge),
    ("transactiontoolarge", Refusal::TooLarge),
    ("exceedsmaxsize", Refusal::TooLarge),
    ("maxtxsizeexceeded", Refusal::TooLarge),
    ("chainid", Refusal::WrongChain),
    ("invalidsender", Refusal::WrongChain),
    ("underpriced", Refusal::Underpriced),
    ("feetoolow", Refusal::Underpriced),
    ("gaspricetoolow", Refusal::Underpriced),
    ("gaspricebelow", Refusal::Underpriced),
    ("belowconfiguredminimum", Refusal::Underpriced),
    ("minimumneeded", Refusal::Underpriced),
];

impl Refusal {
    /// Reads a node's words.
    pub fn of(words: &str) -> Self {
        let plain = words.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase());
        let plain: String = plain.collect();
        WORDS.iter().find(|(word, _)| plain.contains(word)).map_or(Self::Other, |(_, refusal)| *refusal)
    }

    /// What the operator should do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::AlreadyKnown => "nothing: the endpoint has the transaction",
            Self::NonceTooLow => {
                "nothing if this transaction or its replacement is in a block; else another process sends with the same key, \
                 which must belong to one poster"
            }
            Self::NonceTooHigh => "nothing: the transactions before it are sent again first",
            Self::ReplacementUnderpriced => "nothing: the next replacement offers more, up to the fee limits",
            Self::Underpriced => "raise the least tip, or the fee limits, to what the endpoint asks",
            Self::InsufficientFunds => "send ether of the parent chain to the poster's address",
            Self::BelowBaseFee => "nothing if the base fee falls; otherwise raise the limit for the fee",
            Self::GasTooHigh => {
                "make smaller batches, or use an endpoint that lets a transaction have this much gas"
            }
            Self::GasTooLow => "estimate anew: the chain's price of calldata has changed",
            Self::AboveFeeCap => {
                "raise the endpoint's limit for the cost of one transaction, or use another endpoint"
            }
            Self::PoolFull => "wait, raise the fee limits, or use another endpoint",
            Self::TooLarge => "have the sequencer make smaller batches",
            Self::WrongChain => "correct the parent chain's id or the endpoint",
            Self::Other => "see what the endpoint says, and try another one",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_usual_nodes_are_understood() {
        use Refusal as R;
        let said = [
            ("already known", R::AlreadyKnown),
            ("known transaction: 0x3a…", R::AlreadyKnown),
            ("Known transaction", R::AlreadyKnown),
            ("AlreadyKnown", R::AlreadyKnown),
            ("transaction already imported", R::AlreadyKnown),
            ("unknown transaction type", R::Other),
            ("nonce too low: next nonce 9, tx nonce 8", R::NonceTooLow),
            ("nonce too low: address 0x1234, tx: 5 state: 6", R::NonceTooLow),
            ("Nonce too low", R::NonceTooLow),
            ("OldNonce, Current nonce: 3, nonce of rejected tx: 2", R::NonceTooLow),
            ("nonce too high: address 0x1234, tx: 9 state: 6", R::NonceTooHigh),
            ("NonceGap, Future nonce", R::NonceTooHigh),
            ("Transaction nonce is too distant from current sender nonce", R::NonceTooHigh),
            ("replacement transaction underpriced", R::ReplacementUnderpriced),
            (
                "replacement transaction underpriced: new tx gas fee cap 5 <= 7 queued",
                R::ReplacementUnderpriced,
            ),
            ("ReplacementNotAllowed", R::ReplacementUnderpriced),
            ("transaction underpriced", R::Underpriced),
            ("transaction underpriced: gas tip cap 0, minimum needed 1", R::Underpriced),
            ("Gas price below configured minimum gas price", R::Underpriced),
            ("FeeTooLow, MaxFeePerGas too low", R::Underpriced),
            (
                "insufficient funds for gas * price + value: balance 0, tx cost 7, overshot 7",
                R::InsufficientFunds,
            ),
            ("Insufficient funds for gas * price + value", R::InsufficientFunds),
            ("InsufficientFunds, Balance is 0", R::InsufficientFunds),
            ("Upfront cost exceeds account balance", R::InsufficientFunds),
            (
                "max fee per gas less than block base fee: address 0x12, maxFeePerGas: 1, baseFee: 7",
                R::BelowBaseFee,
            ),
            ("Gas price below current base fee", R::BelowBaseFee),
            ("exceeds block gas limit", R::GasTooHigh),
            ("Transaction gas limit exceeds block gas limit", R::GasTooHigh),
            ("transaction gas limit too high (cap: 16777216, tx: 20000000)", R::GasTooHigh),
            ("gas required exceeds allowance (30000000)", R::GasTooHigh),
            ("intrinsic gas too low: gas 21000, minimum needed 22000", R::GasTooLow),
            ("Intrinsic gas exceeds gas limit", R::GasTooLow),
            ("insufficient gas for floor data gas cost: gas 21000, minimum needed 31000", R::GasTooLow),
            ("tx fee (2.00 ether) exceeds the configured cap (1.00 ether)", R::AboveFeeCap),
            ("txpool is full", R::PoolFull),
            ("FeeTooLowToCompete", R::PoolFull),
            ("future transaction tries to replace pending", R::PoolFull),
            ("oversized data: transaction size 140000, limit 131072", R::TooLarge),
            ("invalid chain id for signer: have 1 want 31337", R::WrongChain),
            ("the method eth_sendRawTransaction does not exist", R::Other),
            ("", R::Other),
        ];
        for (words, refusal) in said {
            assert_eq!(Refusal::of(words), refusal, "{words}");
        }
    }
}
