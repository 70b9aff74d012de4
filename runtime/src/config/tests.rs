use proptest::prelude::*;

use super::*;
use crate::limit;

const BUNDLED: [&str; 4] = ["telegram", "terminal", "webhook", "websocket"];

fn parse(text: &str) -> Reading {
    Config::parse(text, Some(Path::new("/etc/gate/sluicegate.toml")), &BUNDLED)
}

fn config(text: &str) -> Config {
    parse(text).into_config().unwrap_or_else(|error| panic!("{error}")).0
}

/// Returns `line: key: problem` of each fault.
fn faults(text: &str) -> Vec<String> {
    let line = |fault: &Fault| fault.line.map(|line| line.to_string()).unwrap_or_default();
    parse(text)
        .faults
        .iter()
        .map(|fault| format!("{}: {}: {}", line(fault), fault.key, fault.problem))
        .collect()
}

/// The reference with every entry set that is not set in it.
fn reference_with_all_set() -> String {
    let set = |line: &str| match line.strip_prefix('#') {
        Some(entry) if entry.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => entry.to_owned(),
        _ => line.to_owned(),
    };
    REFERENCE.lines().map(|line| set(line) + "\n").collect()
}

#[test]
fn the_reference_as_it_stands_is_the_default() {
    let from_reference = Config::parse(REFERENCE, None, &BUNDLED).into_config().unwrap().0;
    let built_in = Config::parse("", None, &BUNDLED).into_config().unwrap().0;
    assert_eq!(from_reference, built_in);
    assert_eq!(built_in.gateway, GatewayConfig::default());
}

#[test]
fn the_entries_of_the_reference_are_right_and_show_the_defaults() {
    let text = reference_with_all_set()
        .replace("\"OPENAI_API_KEY\"", "\"PATH\"")
        .replace("\"TELEGRAM_TOKEN\"", "\"PATH\"")
        // A file that can be read.
        .replace("\"ca.pem\"", "\"/dev/null\"");
    let reading = Config::parse(&text, None, &BUNDLED);
    assert_eq!(reading.faults, [], "{text}");
    let shown = reading.config;
    let built_in = Config::parse("", None, &BUNDLED).config;
    for name in ["terminal", "websocket"] {
        let name = ChannelName::parse(name).unwrap();
        assert_eq!(shown.channels[&name], built_in.channels[&name], "{name}");
    }
    let family = &shown.channels[&ChannelName::parse("family").unwrap()];
    assert_eq!(family.limits, ChannelLimits::default());
    assert_eq!(family.ambiguous_resends, limit::AMBIGUOUS_RESENDS_DEFAULT);
    let AgentConfig::OpenAi(main) = &shown.agents["main"] else {
        panic!("main is another kind")
    };
    let AgentConfig::Command(script) = &shown.agents["script"] else {
        panic!("script is another kind")
    };
    assert_eq!(
        (main.timeout, script.timeout),
        (limit::TURN_TIMEOUT, limit::TURN_TIMEOUT)
    );
}

#[test]
fn the_reference_has_every_key_that_is_read() {
    // An unknown key makes each table name the keys that it knows.
    let known = |text: &str| {
        let fault = parse(text)
            .faults
            .into_iter()
            .find(|fault| fault.problem == "unknown key")
            .unwrap();
        fault
            .remedy
            .split_once("known here: ")
            .unwrap()
            .1
            .split(", ")
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let tables = [
        "qqqqqqqqqq = 1",
        "[gateway]\nqqqqqqqqqq = 1",
        "[agents.main]\nkind = \"echo\"\nqqqqqqqqqq = 1",
        "[channels.a]\ncomponent = \"telegram\"\nqqqqqqqqqq = 1",
        "[channels.a]\ncomponent = \"telegram\"\nlimits = { qqqqqqqqqq = 1 }",
        "[channels.a]\ncomponent = \"telegram\"\naccess = { qqqqqqqqqq = 1 }",
        "[channels.a]\ncomponent = \"telegram\"\nsecrets = { s = { env = \"PATH\", qqqqqqqqqq = 1 } }",
        "[channels.a]\ncomponent = \"telegram\"\ngrant = [{ url = \"https://a.example\", qqqqqqqqqq = 1 }]",
    ];
    let reference = reference_with_all_set();
    for key in tables.into_iter().flat_map(known) {
        let forms = [format!("{key} = "), format!("[{key}"), format!(".{key}]")];
        let stands = forms.iter().any(|form| reference.contains(form));
        assert!(stands, "{key} is not in default.toml");
    }
}

#[test]
fn without_channels_there_are_a_terminal_and_a_websocket_for_whatever_agent_there_is() {
    let config = config("[agents.solo]\nkind = \"echo\"");
    assert!(config.channels_are_default);
    assert!(
        config
            .channels
            .values()
            .all(|channel| channel.agent == "solo" && channel.access == Some(Access::Open))
    );
    let names: Vec<&str> = config.channels.keys().map(ChannelName::as_str).collect();
    assert_eq!(names, ["terminal", "websocket"]);
    let service = config.without_default_terminal();
    assert_eq!(service.channels.len(), 1);
    let configured = self::config("[channels.terminal]\ncomponent = \"terminal\"\naccess = \"open\"");
    assert_eq!(
        configured.without_default_terminal().channels.len(),
        1,
        "a configured terminal stays"
    );
}

#[test]
fn without_an_agent_the_gateway_picks_one() {
    assert_eq!(config("").agents[DEFAULT_AGENT], AgentConfig::Automatic);
}

#[test]
fn a_channel_without_an_agent_has_the_only_one_or_main() {
    let channel = "[channels.a]\ncomponent = \"webhook\"\n";
    let agent_of = |agents: &str| {
        config(&format!("{agents}{channel}")).channels[&ChannelName::from_trusted("a")]
            .agent
            .clone()
    };
    assert_eq!(agent_of(""), "main");
    assert_eq!(agent_of("[agents.solo]\nkind = \"echo\"\n"), "solo");
    assert_eq!(
        agent_of("[agents.b]\nkind = \"echo\"\n[agents.main]\nkind = \"echo\"\n"),
        "main"
    );
    let unclear = format!("[agents.b]\nkind = \"echo\"\n[agents.c]\nkind = \"echo\"\n{channel}");
    assert_eq!(faults(&unclear), ["5: channels.a.agent: this key is required"]);
}

#[test]
fn paths_start_from_the_folder_of_the_file() {
    let config = config("[gateway]\ndata = \"d\"");
    assert_eq!(config.gateway.data, Path::new("/etc/gate/d"));
    assert_eq!(parse("").config.gateway.data, Path::new("/etc/gate/data"));
    assert_eq!(
        self::config("[gateway]\ndata = \"/var/d\"").gateway.data,
        Path::new("/var/d")
    );
}

#[test]
fn every_fault_is_reported_at_once() {
    let text = "\
[gateway]
lisen = \"x\"
grace_s = -1
[agents.main]
kind = \"command\"
command = []
base_url = \"http://127.0.0.1\"
[channels.family]
component = \"telegrm\"
agent = \"mian\"
access = \"pairing\"
secrets = { token = \"123\", other = { env = \"SLUICEGATE_TEST_NO_SUCH_VARIABLE\" } }
grant = [\"api.telegram.org\", \"reveal:none\", \"terminal\", \"terminal\", 7]
limits = { memory_mib = 0 }
";
    assert_eq!(
        faults(text),
        [
            "2: gateway.lisen: unknown key",
            "3: gateway.grace_s: -1 is out of bounds",
            "6: agents.main.command: names no program",
            "7: agents.main.base_url: means nothing for an agent of kind \"command\"",
            "9: channels.family.component: there is no bundled component \"telegrm\"",
            "10: channels.family.agent: there is no agent \"mian\"",
            "11: channels.family.access: must be \"open\" or a list of senders",
            "12: channels.family.secrets.token: a secret never stands in the configuration itself",
            "12: channels.family.secrets.other: the environment variable SLUICEGATE_TEST_NO_SUCH_VARIABLE is not set",
            "13: channels.family.grant[0]: it must start with http://, https://, ws://, wss://, tcp:// or tls://",
            "13: channels.family.grant[1]: reveals the secret \"none\", which is not among the channel's secrets",
            "13: channels.family.grant[3]: terminal is granted twice",
            "13: channels.family.grant[4]: must be a text or a table, but is a whole number",
            "14: channels.family.limits.memory_mib: 0 is out of bounds",
        ]
    );
}

#[test]
fn certificates_that_are_not_there_are_told_with_the_other_faults() {
    assert_eq!(
        faults("[gateway]\ntls_roots = \"nope.pem\"\ngrace_s = -1"),
        [
            "2: gateway.tls_roots: the file /etc/gate/nope.pem can't be read: No such file or directory (os error 2)",
            "3: gateway.grace_s: -1 is out of bounds",
        ]
    );
}

#[test]
fn a_secret_in_the_clear_is_never_repeated() {
    let reading = parse("[channels.a]\ncomponent = \"telegram\"\nsecrets = { bot-token = \"hunter2\" }");
    assert!(!format!("{reading:?}").contains("hunter2"));
    let agent = parse(
        "[agents.main]\nkind = \"openai\"\nbase_url = \"http://127.0.0.1\"\nmodel = \"m\"\napi_key = \"hunter2\"",
    );
    assert!(!format!("{agent:?}").contains("hunter2"));
    for grant in [
        "\"https://me:hunter2@a.example\"",
        "\"https://a.example/hunter2\"",
        "{ url = \"https://a.example/hunter2\" }",
    ] {
        let grant = parse(&format!("[channels.a]\ncomponent = \"telegram\"\ngrant = [{grant}]"));
        assert_eq!(grant.faults.len(), 1);
        assert!(!format!("{grant:?}").contains("hunter2"));
    }
}

#[test]
fn a_loaded_secret_does_not_show() {
    let config = config("[channels.a]\ncomponent = \"webhook\"\nsecrets = { key = { env = \"CARGO_MANIFEST_DIR\" } }");
    let value = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let channel = &config.channels[&ChannelName::from_trusted("a")];
    assert_eq!(channel.secrets["key"].expose(), value);
    assert!(!format!("{config:?}").contains(&value));
}

#[test]
fn a_syntax_error_hides_what_it_causes() {
    let reading = parse("[gateway\nlisten = \"127.0.0.1:1\"\nfoo = 1\n");
    assert!(
        reading.faults.iter().all(|fault| fault.kind == FaultKind::Unreadable),
        "{:?}",
        reading.faults
    );
    assert_eq!(reading.faults[0].line, Some(1));
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let reading = parse("[channels.a]\ncomponent = \"telegram\"\naccess = { allow = [] }");
    assert_eq!(reading.faults, []);
    assert!(
        reading.warnings[0].problem.contains("nobody may talk"),
        "{:?}",
        reading.warnings
    );
    let sources = Sources {
        listen: Some(([0, 0, 0, 0], 7878).into()),
        ..Sources::default()
    };
    let open = Config::read(&sources, &BUNDLED);
    assert!(
        open.warnings[0].problem.contains("other machines"),
        "{:?}",
        open.warnings
    );
}

#[test]
fn settings_have_the_text_that_a_component_reads() {
    let text = "[channels.a]\ncomponent = \"telegram\"\nsettings = { t = \"x\", n = 7, f = 0.5, b = true, l = [\"a\", \"b\"] }";
    let channel = &config(text).channels[&ChannelName::from_trusted("a")];
    let texts: Vec<(&str, String)> = channel
        .settings
        .iter()
        .map(|(key, value)| (key.as_str(), value.to_guest_text()))
        .collect();
    let expected = [
        ("b", "true"),
        ("f", "0.5"),
        ("l", "[\"a\",\"b\"]"),
        ("n", "7"),
        ("t", "x"),
    ];
    assert_eq!(texts, expected.map(|(key, text)| (key, text.to_owned())));
}

#[test]
fn a_file_that_can_not_be_read_is_a_fault() {
    let read = |path: &Path| {
        Config::read(
            &Sources {
                file: Some(path.to_owned()),
                ..Sources::default()
            },
            &BUNDLED,
        )
        .faults
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sluicegate.toml");
    assert_eq!(read(&path)[0].kind, FaultKind::Unreadable);
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert_eq!(read(&path)[0].problem, "can't be read: it is not UTF-8 text");
    std::fs::write(&path, vec![b' '; usize::try_from(FILE_BYTES_MAX).unwrap() + 1]).unwrap();
    assert!(read(&path)[0].problem.contains("more than 1048576 bytes"));
    assert_eq!(read(folder.path())[0].kind, FaultKind::Unreadable);
}

#[test]
fn a_flag_overrules_the_file() {
    let sources = Sources {
        data: Some("elsewhere".into()),
        listen: Some(([127, 0, 0, 1], 1).into()),
        ..Sources::default()
    };
    let gateway = Config::read(&sources, &BUNDLED).config.gateway;
    assert_eq!(
        (gateway.data.as_path(), gateway.listen.port()),
        (Path::new("elsewhere"), 1)
    );
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,80}(\\n\\PC{0,40}){0,4}") {
        parse(&text);
    }

    #[test]
    fn no_damage_to_the_reference_makes_it_panic(at in 0..5000_usize, length in 0..40_usize, with in "[\\[\\]{}\"'=#.,a-z0-9\\n ]{0,8}") {
        let mut characters: Vec<char> = reference_with_all_set().chars().collect();
        let start = at.min(characters.len());
        let end = (start + length).min(characters.len());
        characters.splice(start..end, with.chars());
        let text: String = characters.into_iter().collect();
        for fault in parse(&text).faults {
            prop_assert!(!fault.problem.is_empty() && !fault.remedy.is_empty());
            prop_assert!(fault.line.is_none_or(|line| line <= text.lines().count() + 1));
        }
    }
}
