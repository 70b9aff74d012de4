//! Takes memory and writes to all of it, until there is no more.

pub(crate) fn run() -> String {
    const STEP: usize = 1024 * 1024;
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut piece = Vec::new();
        if piece.try_reserve_exact(STEP).is_err() {
            return format!("refused after {} MiB", held.len());
        }
        piece.resize(STEP, 1_u8);
        held.push(std::hint::black_box(piece));
    }
}
