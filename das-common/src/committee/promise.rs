//! What a committee promises, as a table for people and for programs.

use std::fmt;

use serde::Serialize;

use super::Policy;

/// How many holders a batch can lose and still be read, in one of its two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LossBounds {
    /// How many honest holders with intact disks a read needs.
    pub needed: u64,
    /// Worst case (only the members that made the certificate hold the batch): how many of them may be lost or lie.
    pub worst_may_be_lost: u64,
    /// Worst case, after every dishonest member showed its colours: how many honest holders may be lost besides.
    pub worst_honest_may_be_lost: u64,
    /// Best case (every member holds the batch): how many members may be lost or lie.
    pub best_may_be_lost: u64,
}

/// What follows from a [`Policy`], in the words of an operator. `Display` prints it as a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Promise {
    /// n.
    pub members: u64,
    /// H.
    pub honest_members: u64,
    /// k.
    pub data_shards: u64,
    /// A, as the keyset and Nitro's options have it.
    pub assumed_honest: u64,
    /// K.
    pub threshold: u64,
    /// How many members may be down while batches are still certified.
    pub may_be_down_for_writing: u64,
    /// How many members may be down while every certified batch can still be read, hot and cold, worst case.
    pub may_be_down_for_reading: u64,
    /// The bounds while members hold whole copies.
    pub hot: LossBounds,
    /// The bounds once members hold shards (the same as `hot` when k is 1).
    pub cold: LossBounds,
    /// Bytes kept by the whole committee per byte stored while the batch is hot.
    pub storage_factor_hot: f64,
    /// Bytes kept by the whole committee per byte stored once the batch is kept as shards.
    pub storage_factor_cold: f64,
}

impl Promise {
    /// The promise of a committee with this policy.
    pub fn of(policy: &Policy) -> Self {
        let (n, k, threshold) = (policy.members(), policy.data_shards(), policy.threshold());
        let bounds = |needed| LossBounds {
            needed,
            worst_may_be_lost: threshold - needed,
            worst_honest_may_be_lost: k - needed,
            best_may_be_lost: n - needed,
        };
        let cold = bounds(k);
        #[expect(clippy::cast_precision_loss, reason = "both are at most 64")]
        let (storage_factor_hot, storage_factor_cold) = (n as f64, n as f64 / k as f64);
        Self {
            members: n,
            honest_members: policy.honest_members(),
            data_shards: k,
            assumed_honest: policy.assumed_honest(),
            threshold,
            may_be_down_for_writing: n - threshold,
            may_be_down_for_reading: cold.worst_may_be_lost,
            hot: bounds(1),
            cold,
            storage_factor_hot,
            storage_factor_cold,
        }
    }

    /// Whether cold batches are kept as shards.
    pub fn is_coded(&self) -> bool {
        self.data_shards > 1
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |bounds: u64, out_of: u64| format!("{bounds} of {out_of}");
        let (n, k, hot, cold) = (self.members, self.threshold, &self.hot, &self.cold);
        writeln!(f, "members (n)                           {n}")?;
        writeln!(f, "honest members (H)                    {}", self.honest_members)?;
        writeln!(f, "data shards (k)                       {}", self.data_shards)?;
        writeln!(f, "assumed honest, in the keyset (A)     {}", self.assumed_honest)?;
        writeln!(f, "signatures for a certificate (K)      {k}")?;
        writeln!(f, "may be down for writing               {}", of(self.may_be_down_for_writing, n))?;
        writeln!(f, "may be down for reading               {} holders", of(self.may_be_down_for_reading, k))?;
        if self.is_coded() {
            let (hot, cold) = (self.storage_factor_hot, self.storage_factor_cold);
            writeln!(f, "storage per byte                      {cold:.2} as shards; {hot:.0} while hot")?;
        } else {
            writeln!(f, "storage per byte                      {:.0}", self.storage_factor_hot)?;
        }
        writeln!(f)?;
        writeln!(f, "losses that a batch survives          hot (whole)   cold (shards)")?;
        let mut row = |name: &str, hot: String, cold: String| writeln!(f, "  {name:<36}{hot:<14}{cold}");
        row("holders that a read needs", hot.needed.to_string(), cold.needed.to_string())?;
        row("worst case: only K hold it", of(hot.worst_may_be_lost, k), of(cold.worst_may_be_lost, k))?;
        let dishonest = format!("  honest ones beside {} dishonest", n - self.honest_members);
        row(&dishonest, hot.worst_honest_may_be_lost.to_string(), cold.worst_honest_may_be_lost.to_string())?;
        row("best case: all members hold it", of(hot.best_may_be_lost, n), of(cold.best_may_be_lost, n))?;
        if self.is_coded() {
            writeln!(f)?;
            writeln!(
                f,
                "As whole copies a batch lives while one honest holder does; as shards, while {} do.",
                cold.needed
            )?;
            writeln!(
                f,
                "Members that keep every batch whole (custody.whole-only) stay in the first column."
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise(n: i64, h: i64, k: i64) -> Promise {
        Promise::of(&Policy::new(n, h, k).unwrap())
    }

    #[test]
    fn the_default_committee() {
        let p = promise(6, 4, 3);
        assert_eq!((p.assumed_honest, p.threshold, p.may_be_down_for_writing), (2, 5, 1));
        assert_eq!((p.storage_factor_cold, p.storage_factor_hot), (2.0, 6.0));
        let hot =
            LossBounds { needed: 1, worst_may_be_lost: 4, worst_honest_may_be_lost: 2, best_may_be_lost: 5 };
        let cold =
            LossBounds { needed: 3, worst_may_be_lost: 2, worst_honest_may_be_lost: 0, best_may_be_lost: 3 };
        assert_eq!((p.hot, p.cold), (hot, cold));
        let text = p.to_string();
        assert!(text.contains("2.00 as shards; 6 while hot"), "{text}");
        assert!(text.lines().all(|line| line.len() <= 110), "{text}");
    }

    #[test]
    fn whole_copies_have_one_storage_factor_and_one_column_of_losses() {
        let p = promise(6, 2, 1);
        assert_eq!(p.hot, p.cold);
        assert_eq!((p.assumed_honest, p.threshold, p.may_be_down_for_writing), (2, 5, 1));
        assert!(!p.to_string().contains("as shards;"));
    }
}
