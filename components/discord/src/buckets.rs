//! Discord's rate limits (Discord: Rate Limits): read from the headers of each answer, never assumed.
//!
//! Routes share buckets, and a bucket counts for each channel by itself. Each call may run in a fresh instance, so what
//! is spent is kept in the channel's state; only that, because every write there waits for the disk.

use sluicegate_sdk::http::Response;
use sluicegate_sdk::{clock, debug, state};

use crate::failure::Failure;

/// Where the end of the limit for the whole bot is kept.
const GLOBAL_KEY: &str = "limit/global";
/// The longest wait that is believed, milliseconds: an hour.
const WAIT_MS_MAX: u64 = 3_600_000;

/// A kind of call, in one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The method and the path with its ids left out.
    pub name: &'static str,
    /// The channel that the limit counts for.
    pub channel: String,
}

/// What an answer says of a bucket that is spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// Discord's name of the bucket; none where it does not say.
    pub bucket: Option<String>,
    /// Until it is full again, milliseconds.
    pub wait_ms: u64,
    /// Whether it is the whole bot's.
    pub global: bool,
}

/// Reads what an answer says; none while more calls are left.
pub fn spent(response: &Response, failure: Option<&Failure>) -> Option<Spent> {
    let bucket = response.header("x-ratelimit-bucket").map(str::to_owned);
    if let Some(Failure::RateLimited { wait_ms, global }) = failure {
        return Some(Spent {
            bucket,
            wait_ms: (*wait_ms).min(WAIT_MS_MAX),
            global: *global,
        });
    }
    if response.header("x-ratelimit-remaining")?.trim() != "0" {
        return None;
    }
    let seconds: f64 = response.header("x-ratelimit-reset-after")?.trim().parse().ok()?;
    let wait_ms = ((seconds * 1000.0).ceil() as u64).min(WAIT_MS_MAX);
    (wait_ms > 0).then_some(Spent {
        bucket,
        wait_ms,
        global: false,
    })
}

impl Route {
    /// Says that a limit on the way of this call is spent.
    ///
    /// # Errors
    /// [`Failure::RateLimited`] with what is left to wait.
    pub fn check(&self) -> Result<(), Failure> {
        let now_ms = clock::now_ms();
        let bucket = text(&self.bucket_key()).unwrap_or_else(|| self.name.to_owned());
        for (key, global) in [(GLOBAL_KEY.to_owned(), true), (self.limit_key(&bucket), false)] {
            let Some(end_ms) = text(&key).and_then(|text| text.parse::<u64>().ok()) else {
                continue;
            };
            let wait_ms = end_ms.saturating_sub(now_ms);
            if (1..=WAIT_MS_MAX).contains(&wait_ms) {
                return Err(Failure::RateLimited { wait_ms, global });
            }
            state::delete(&key);
        }
        Ok(())
    }

    /// Remembers what an answer said.
    pub fn learn(&self, response: &Response, failure: Option<&Failure>) {
        let Some(spent) = spent(response, failure) else { return };
        let end_ms = clock::now_ms().saturating_add(spent.wait_ms).to_string();
        if spent.global {
            return keep(GLOBAL_KEY, &end_ms);
        }
        if let Some(bucket) = &spent.bucket
            && text(&self.bucket_key()).as_ref() != Some(bucket)
        {
            keep(&self.bucket_key(), bucket);
        }
        let bucket = spent.bucket.unwrap_or_else(|| self.name.to_owned());
        keep(&self.limit_key(&bucket), &end_ms);
    }

    fn bucket_key(&self) -> String {
        format!("bucket/{}", self.name)
    }

    fn limit_key(&self, bucket: &str) -> String {
        format!("limit/{bucket}/{}", self.channel)
    }
}

fn text(key: &str) -> Option<String> {
    state::get(key).and_then(|bytes| String::from_utf8(bytes).ok())
}

fn keep(key: &str, value: &str) {
    if let Err(why) = state::set(key, value.as_bytes()) {
        debug!("a rate limit was not kept, Discord will say it again: {why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(headers: &[(&str, &str)]) -> Response {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Response {
            status: 200,
            headers: headers.collect(),
            body: Vec::new(),
        }
    }

    #[test]
    fn only_a_spent_bucket_is_worth_remembering() {
        let some_left = [
            ("X-RateLimit-Bucket", "abc"),
            ("X-RateLimit-Remaining", "1"),
            ("X-RateLimit-Reset-After", "4.5"),
        ];
        assert_eq!(spent(&answer(&some_left), None), None);
        let none_left = [
            ("X-RateLimit-Bucket", "abc"),
            ("X-RateLimit-Remaining", "0"),
            ("X-RateLimit-Reset-After", "4.5004"),
        ];
        let wanted = Spent {
            bucket: Some("abc".to_owned()),
            wait_ms: 4501,
            global: false,
        };
        assert_eq!(spent(&answer(&none_left), None), Some(wanted));
        assert_eq!(spent(&answer(&[("X-RateLimit-Remaining", "0")]), None), None);
        let odd = [("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset-After", "-1")];
        assert_eq!(spent(&answer(&odd), None), None);
    }

    #[test]
    fn a_refused_call_says_how_long_and_for_whom() {
        let failure = Failure::RateLimited {
            wait_ms: 700,
            global: true,
        };
        let wanted = Spent {
            bucket: None,
            wait_ms: 700,
            global: true,
        };
        assert_eq!(spent(&answer(&[]), Some(&failure)), Some(wanted));
        assert_eq!(spent(&answer(&[]), Some(&Failure::Gateway(500))), None);
    }
}
