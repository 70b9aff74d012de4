//! Asks the listener, and waits for as many milliseconds as the argument says; `flood` asks with more than is allowed, and
//! tries to be the listener itself.

use sluicegate_sdk::relay;

pub(crate) fn run(argument: &str) -> String {
    if argument == "flood" {
        let large = relay::ask(&vec![0; 1024 * 1024], u64::MAX);
        // Only the listener takes and answers: from elsewhere none of these has an effect.
        let stolen = (0..1000).filter(|_| relay::take().is_some()).count();
        (0..1000).for_each(|number| relay::answer(number, b"forged"));
        relay::abandon();
        return format!("{large:?}, {stolen} stolen");
    }
    let answer = relay::ask(b"request", argument.parse().unwrap_or(0));
    format!("{:?}", answer.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}
