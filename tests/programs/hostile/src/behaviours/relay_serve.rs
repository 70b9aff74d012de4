//! Takes what deliveries ask and treats it as the argument says: `never` answers nothing, `guess` answers every number but
//! the right one, `huge` answers with more than is allowed, `return` ends with it, and `true` is the honest one.

use sluicegate_sdk::{clock, relay};

pub(crate) fn run(argument: &str) -> String {
    loop {
        if let Some((number, _)) = relay::take() {
            match argument {
                "never" => {}
                "guess" => (0..1000)
                    .chain([u64::MAX])
                    .filter(|guessed| *guessed != number)
                    .for_each(|guessed| relay::answer(guessed, b"another's")),
                "huge" => relay::answer(number, &vec![0; 1024 * 1024]),
                "return" => return "returned with a request in its hands".to_owned(),
                _ => {
                    relay::answer(number, b"sent");
                    relay::answer(number, b"twice");
                }
            }
        }
        if !clock::sleep_ms(5) {
            return "told to stop".to_owned();
        }
    }
}
