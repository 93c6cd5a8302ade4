//! A budget for retries of the same target, as a share of live traffic, so that an outage never multiplies it.

/// The reserve that lets a quiet gateway retry at all, in retries.
const RESERVE: f64 = 100.0;

/// A bucket that every request fills a little and every retry empties by one.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    balance: f64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { balance: RESERVE }
    }
}

impl RetryBudget {
    /// A request arrived; `share` of a retry becomes affordable (`[retry] budget`). A share of nothing affords none, reserve or not.
    pub fn deposit(&mut self, share: f64) {
        self.balance = if share > 0.0 { (self.balance + share).min(RESERVE) } else { 0.0 };
    }

    /// Whether a retry is affordable; if so it is paid for.
    pub fn withdraw(&mut self) -> bool {
        let affordable = self.balance >= 1.0;
        if affordable {
            self.balance -= 1.0;
        }
        affordable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_an_outage_retries_are_bounded_by_the_share_and_the_reserve() {
        let (mut budget, mut retries) = (RetryBudget::default(), 0);
        for _ in 0..10_000 {
            budget.deposit(0.2);
            while budget.withdraw() {
                retries += 1;
            }
        }
        assert!((2000..=2100).contains(&retries), "{retries}");
    }

    #[test]
    fn without_a_share_there_is_no_retry_at_all() {
        let mut budget = RetryBudget::default();
        budget.deposit(0.0);
        assert!(!budget.withdraw());
    }
}
