//! Calls itself until the stack ends.

pub(crate) fn run() -> String {
    deeper(0).to_string()
}

#[expect(unconditional_recursion, reason = "the end of the stack is the point")]
#[inline(never)]
fn deeper(depth: u64) -> u64 {
    // Little of the guest's own stack in memory, so that the stack of the machine ends first.
    deeper(depth + 1).wrapping_add(std::hint::black_box(depth))
}
