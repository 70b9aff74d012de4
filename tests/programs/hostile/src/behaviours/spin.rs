//! Runs without end, calling nobody.

pub(crate) fn run() -> String {
    let mut number = 0_u64;
    loop {
        number = std::hint::black_box(number.wrapping_add(1));
        if number == u64::MAX {
            return number.to_string();
        }
    }
}
