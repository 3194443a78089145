//! The arithmetic of a committee: everything that follows from n, H and k.

use std::fmt;

use crate::keyset::MAX_MEMBERS;

/// How many members there are, how many of them are honest, and into how many data shards cold batches are cut.
///
/// A value of this type satisfies `1 <= k <= H <= n <= 64`; nothing below can therefore under- or overflow.
///
/// ```
/// use das_common::committee::Policy;
///
/// let policy = Policy::new(6, 4, 3).unwrap();
/// assert_eq!((policy.assumed_honest(), policy.threshold()), (2, 5));
/// assert!(Policy::new(6, 2, 3).is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Policy {
    members: u8,
    honest_members: u8,
    data_shards: u8,
}

/// One of the three numbers of a [`Policy`] is out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {got}, but must be at least {least} and at most {most} ({because})")]
pub struct PolicyError {
    /// The field as the committee file calls it; `members` for the number of `[[member]]` entries.
    pub field: &'static str,
    /// The value given.
    pub got: i64,
    /// The smallest value allowed.
    pub least: u64,
    /// The largest value allowed, given the other numbers.
    pub most: u64,
    /// Where the largest value comes from.
    pub because: &'static str,
}

impl Policy {
    /// Checks `1 <= data_shards <= honest_members <= members <= 64`.
    pub fn new(members: i64, honest_members: i64, data_shards: i64) -> Result<Self, PolicyError> {
        let in_range = |field, got: i64, most: u64, because| match u64::try_from(got) {
            Ok(value @ 1..) if value <= most => {
                Ok(u8::try_from(value).expect("every limit is at most MAX_MEMBERS"))
            }
            _ => Err(PolicyError { field, got, least: 1, most, because }),
        };
        let most_members = MAX_MEMBERS as u64;
        let n = in_range("members", members, most_members, "a keyset holds no more keys")?;
        let h = in_range("honest-members", honest_members, u64::from(n), "the number of members")?;
        let k = in_range("data-shards", data_shards, u64::from(h), "honest-members")?;
        Ok(Self { members: n, honest_members: h, data_shards: k })
    }

    /// n, the number of members.
    pub fn members(&self) -> u64 {
        self.members.into()
    }

    /// H, how many members are assumed to keep their word.
    pub fn honest_members(&self) -> u64 {
        self.honest_members.into()
    }

    /// k, how many shards rebuild a cold batch; 1 means that every member keeps whole copies.
    pub fn data_shards(&self) -> u64 {
        self.data_shards.into()
    }

    /// How many members may be dishonest or lost for good: n - H.
    pub fn dishonest_members(&self) -> u64 {
        self.members() - self.honest_members()
    }

    /// A, the `assumed_honest` of the on-chain keyset: H - k + 1.
    pub fn assumed_honest(&self) -> u64 {
        self.honest_members() - self.data_shards() + 1
    }

    /// K, how many signatures make a certificate: n - H + k. At least k of any K signers are honest.
    pub fn threshold(&self) -> u64 {
        self.dishonest_members() + self.data_shards()
    }

    /// Whether cold batches are kept as shards.
    pub fn is_coded(&self) -> bool {
        self.data_shards > 1
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Policy(n {}, H {}, k {})", self.members, self.honest_members, self.data_shards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_keeps_the_promise() {
        let mut allowed = 0;
        for n in -1..=66 {
            for h in -1..=66 {
                for k in -1..=66 {
                    let policy = Policy::new(n, h, k);
                    assert_eq!(policy.is_ok(), 1 <= k && k <= h && h <= n && n <= 64, "{n} {h} {k}");
                    let Ok(p) = policy else { continue };
                    allowed += 1;
                    // The keyset's rule: fewer than A members may be missing from a certificate.
                    assert_eq!(p.members() - p.threshold(), p.assumed_honest() - 1);
                    assert!((1..=p.members()).contains(&p.assumed_honest()));
                    // Of any K signers, k are honest; and K members can be found without the dishonest ones.
                    assert_eq!(p.threshold() - p.dishonest_members(), p.data_shards());
                    assert!(p.threshold() <= p.members());
                }
            }
        }
        assert_eq!(allowed, 64 * 65 * 66 / 6);
    }

    #[test]
    fn errors_name_field_limit_and_value() {
        let text = |n, h, k| Policy::new(n, h, k).unwrap_err().to_string();
        assert_eq!(
            text(6, 7, 1),
            "honest-members is 7, but must be at least 1 and at most 6 (the number of members)"
        );
        assert_eq!(text(6, 2, 3), "data-shards is 3, but must be at least 1 and at most 2 (honest-members)");
        assert!(text(65, 1, 1).starts_with("members is 65,"));
        assert!(text(i64::MAX, 1, 1).starts_with("members is 9223372036854775807,"));
    }
}
