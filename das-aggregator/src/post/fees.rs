//! What a transaction offers (EIP-1559), and how much more its replacement must.

use bincode::{Decode, Encode};

/// Parent chain nodes take a replacement that offers a tenth more in both fields; an eighth is on the safe side of every rule.
const BUMP_NUMERATOR: u128 = 9;
const BUMP_DENOMINATOR: u128 = 8;

/// Fees of a transaction, wei per gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Fees {
    /// The most that is paid, base fee and tip together.
    pub max: u128,
    /// The most of it that goes to who builds the block.
    pub tip: u128,
}

/// What the chain asks now, from its fee history; wei per gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Market {
    /// The next block's base fee.
    pub base: u128,
    /// What others tip.
    pub tip: u128,
}

/// What the operator is ready to pay, wei per gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeeLimits {
    /// Most of all.
    pub max: u128,
    /// Most tip.
    pub tip: u128,
    /// Least tip.
    pub least_tip: u128,
}

impl FeeLimits {
    /// What to offer now; `None` when even the next block's base fee is above the limit.
    ///
    /// Twice the base fee: it rises by at most an eighth a block, so the offer stands for about six full blocks.
    pub fn offer(&self, market: Market) -> Option<Fees> {
        let tip = market.tip.clamp(self.least_tip, self.tip.max(self.least_tip));
        let floor = market.base.saturating_add(tip);
        if floor > self.max {
            return None;
        }
        let max = market.base.saturating_mul(2).saturating_add(tip).min(self.max);
        Some(Fees { max, tip })
    }

    /// What a replacement of `last` must offer; `None` when the limits do not allow it.
    pub fn replacement(&self, last: Fees, market: Market) -> Option<Fees> {
        let raised = |fee: u128| fee.saturating_mul(BUMP_NUMERATOR).div_ceil(BUMP_DENOMINATOR).max(fee + 1);
        let wanted = self.offer(market)?;
        let fees = Fees { max: wanted.max.max(raised(last.max)), tip: wanted.tip.max(raised(last.tip)) };
        // A tip above the limit for tips is what the rule for replacements costs; the limit for all holds.
        (fees.max <= self.max).then_some(fees)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: FeeLimits = FeeLimits { max: 1000, tip: 50, least_tip: 1 };

    #[test]
    fn an_offer_stands_for_rising_fees_and_never_goes_beyond_the_limit() {
        assert_eq!(LIMITS.offer(Market { base: 100, tip: 7 }), Some(Fees { max: 207, tip: 7 }));
        assert_eq!(LIMITS.offer(Market { base: 100, tip: 500 }), Some(Fees { max: 250, tip: 50 }));
        assert_eq!(LIMITS.offer(Market { base: 0, tip: 0 }), Some(Fees { max: 1, tip: 1 }));
        assert_eq!(LIMITS.offer(Market { base: 900, tip: 7 }), Some(Fees { max: 1000, tip: 7 }));
        assert_eq!(LIMITS.offer(Market { base: 994, tip: 7 }), None);
        assert_eq!(LIMITS.offer(Market { base: u128::MAX, tip: u128::MAX }), None);
    }

    proptest! {
        #[test]
        fn a_replacement_is_taken_by_every_node_and_within_the_limit(
            base in 0_u128..2000, tip in 0_u128..100, max in 1_u128..1000, last_tip in 0_u128..100,
        ) {
            let last = Fees { max, tip: last_tip.min(max) };
            if let Some(fees) = LIMITS.replacement(last, Market { base, tip }) {
                prop_assert!(fees.max * 10 >= last.max * 11 && fees.tip * 10 >= last.tip * 11);
                prop_assert!(fees.max > last.max && fees.tip > last.tip);
                prop_assert!(fees.max <= LIMITS.max && fees.tip <= fees.max);
            }
        }
    }
}
