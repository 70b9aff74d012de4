//! The bundled components: built from source by this crate's build script, and embedded.
//!
//! Every member of the guests' workspace that becomes a component is in here, under the name of its folder.

/// One bundled component.
#[derive(Debug, Clone, Copy)]
pub struct Bundled {
    /// What the operator calls it in the configuration, such as `telegram`.
    pub name: &'static str,
    /// The component, in WebAssembly's binary format.
    pub wasm: &'static [u8],
}

/// Sorted by name, each name once: the build script writes it so.
static BUNDLED: &[Bundled] = include!(concat!(env!("OUT_DIR"), "/bundled.rs"));

/// Returns every bundled component, sorted by name.
pub fn all() -> &'static [Bundled] {
    BUNDLED
}

/// Returns the bundled component of this name.
pub fn find(name: &str) -> Option<&'static Bundled> {
    let at = BUNDLED.binary_search_by_key(&name, |bundled| bundled.name).ok()?;
    BUNDLED.get(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The eight bytes that every component begins with (Component Model, "Binary Format", preamble).
    const PREAMBLE: [u8; 8] = [0x00, b'a', b's', b'm', 0x0d, 0x00, 0x01, 0x00];

    #[test]
    fn every_bundled_file_is_a_component() {
        assert!(!all().is_empty());
        for bundled in all() {
            assert!(bundled.wasm.starts_with(&PREAMBLE), "{} is no component", bundled.name);
        }
    }

    #[test]
    fn each_is_found_by_its_name_and_no_other_is() {
        assert!(all().is_sorted_by(|a, b| a.name < b.name));
        for bundled in all() {
            assert!(
                find(bundled.name).is_some_and(|found| std::ptr::eq(found.wasm, bundled.wasm)),
                "{}",
                bundled.name
            );
        }
        assert!(find("sdk").is_none());
        assert!(find("").is_none());
    }
}
