//! What the channels' pages tell an operator to paste.

use std::path::Path;

use harness::Setup;

/// Returns the blocks of TOML of a page that configure a channel.
fn blocks(page: &str) -> Vec<String> {
    let fenced = page.split("```toml\n").skip(1);
    let blocks = fenced.filter_map(|rest| rest.split("```").next());
    blocks
        .filter(|block| block.contains("[channels."))
        .map(str::to_owned)
        .collect()
}

/// Returns the names of the environment variables that a block takes its secrets from.
fn variables(block: &str) -> Vec<&str> {
    let named = block.split("env = \"").skip(1);
    named.filter_map(|rest| rest.split('"').next()).collect()
}

#[tokio::test]
async fn every_channels_page_has_a_block_that_its_component_takes() {
    let components = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../components");
    let folders = std::fs::read_dir(&components).expect("the components are there");
    let folders = folders.map(|entry| entry.expect("an entry").path());
    let (mut setup, mut pages) = (Setup::new().echo(), 0);
    for folder in folders.filter(|folder| folder.join("src/map.rs").is_file()) {
        let page = std::fs::read_to_string(folder.join("README.md")).expect("every channel has a page");
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a name");
        let component = format!("component = \"{name}\"\n");
        let blocks = blocks(&page);
        assert!(
            blocks.iter().any(|block| block.contains(&component)),
            "{name}: no block of its page configures it"
        );
        for block in &blocks {
            for variable in variables(block) {
                setup = setup.env(variable, "a-value-of-the-suite");
            }
            // Held against its component like any other, and then left alone: the platforms are not for tests.
            setup = setup.section(&block.replace(&component, &format!("{component}paused = true\n")));
        }
        pages += 1;
    }
    assert!(pages > 10, "the pages are found");
    let gateway = setup.start().await;
    let listed = crate::operator::json_of(&gateway, &["channel", "list"]).await;
    let states: Vec<_> = listed.as_array().into_iter().flatten().collect();
    assert!(states.len() >= pages, "{listed}");
}
