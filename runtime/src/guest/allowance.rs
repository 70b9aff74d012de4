//! What a channel may use of something over time: CPU, lines of log, messages.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// An amount that is earned as time passes, and kept up to a burst. Below zero it is owed.
#[derive(Debug)]
pub struct Allowance {
    per_second: f64,
    burst: f64,
    balance: Mutex<Balance>,
}

#[derive(Debug)]
struct Balance {
    left: f64,
    counted_at: Instant,
}

impl Allowance {
    /// Makes an allowance that has its burst at once.
    pub(crate) fn new(per_second: f64, burst: f64) -> Self {
        let balance = Balance {
            left: burst,
            counted_at: Instant::now(),
        };
        Self {
            per_second,
            burst,
            balance: Mutex::new(balance),
        }
    }

    /// Makes an allowance that earns so much in a minute, and keeps what it earns in one.
    pub fn per_minute(amount: u32) -> Self {
        let amount = f64::from(amount);
        Self::new(amount / 60.0, amount)
    }

    /// Takes an amount, from what was earned until now, and owes no more than `debt_max` afterwards. Returns how long it
    /// takes to earn what is owed, where something is.
    pub(crate) fn spend(&self, amount: f64, debt_max: f64) -> Option<Duration> {
        let mut balance = self.balance.lock().unwrap_or_else(PoisonError::into_inner);
        self.earn(&mut balance);
        balance.left = (balance.left - amount).max(-debt_max);
        (balance.left < 0.0).then(|| Duration::from_secs_f64(-balance.left / self.per_second))
    }

    /// Takes an amount. Debts are kept whole: whoever uses this allowance works one after the other, and each must wait for
    /// what all before it owe.
    pub(crate) fn spend_and_owe(&self, amount: f64) -> Option<Duration> {
        self.spend(amount, f64::INFINITY)
    }

    /// Takes an amount where nobody waits for debts to be paid: who was busy once must count as idle again soon after.
    pub(crate) fn spend_and_forget(&self, amount: f64) -> bool {
        self.spend(amount, self.burst).is_some()
    }

    /// Returns how long it takes to earn what is owed, where something is.
    pub(crate) fn owed(&self) -> Option<Duration> {
        self.spend_and_owe(0.0)
    }

    /// Takes an amount where there is as much. Returns whether there was.
    pub(crate) fn take(&self, amount: f64) -> bool {
        let mut balance = self.balance.lock().unwrap_or_else(PoisonError::into_inner);
        self.earn(&mut balance);
        let has_it = balance.left >= amount;
        if has_it {
            balance.left -= amount;
        }
        has_it
    }

    fn earn(&self, balance: &mut Balance) {
        let now = Instant::now();
        let earned = now.duration_since(balance.counted_at).as_secs_f64() * self.per_second;
        balance.left = (balance.left + earned).min(self.burst);
        balance.counted_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_minutes_worth_may_come_at_once_and_what_is_owed_is_waited_for() {
        let allowance = Allowance::per_minute(60);
        assert_eq!(allowance.owed(), None);
        assert_eq!(allowance.spend_and_owe(60.0), None);
        assert_eq!(allowance.spend_and_owe(90.0), Some(Duration::from_secs(90)));
        tokio::time::advance(Duration::from_secs(91)).await;
        assert_eq!(allowance.owed(), None, "it was earned");
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(
            allowance.spend_and_owe(61.0),
            Some(Duration::from_secs(1)),
            "an hour keeps no more than a minute"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_there_is_not_taken() {
        let allowance = Allowance::new(1.0, 2.0);
        assert!(allowance.take(2.0) && !allowance.take(1.0));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(allowance.take(1.0));
    }
}
