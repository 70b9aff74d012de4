use super::*;
use crate::component::{SecretRequest, Setting, SettingKind};

fn inspection() -> Inspection {
    Inspection {
        digest: "00".to_owned(),
        bytes: 1,
        name: "telegram".to_owned(),
        version: "0.1.0".to_owned(),
        summary: "A bot".to_owned(),
        contract: "0.1.0".to_owned(),
        interfaces: vec!["listener".to_owned()],
        features: Vec::new(),
        settings: vec![
            Setting {
                key: "api-base".to_owned(),
                summary: "the server".to_owned(),
                kind: SettingKind::Text,
                required: false,
                default: Some("https://api.telegram.org".to_owned()),
            },
            Setting {
                key: "room".to_owned(),
                summary: "the room".to_owned(),
                kind: SettingKind::Number,
                required: true,
                default: None,
            },
        ],
        secrets: vec![SecretRequest {
            name: "bot-token".to_owned(),
            summary: "the token".to_owned(),
            required: true,
            hosts: vec!["api.telegram.org".to_owned()],
            placements: Vec::new(),
            reveal: false,
        }],
        endpoints: vec![
            EndpointRequest {
                scheme: "https".to_owned(),
                host: "{api-base}".to_owned(),
                port: None,
                reason: "messages".to_owned(),
            },
            EndpointRequest {
                scheme: "https".to_owned(),
                host: "files.example.org".to_owned(),
                port: None,
                reason: "files".to_owned(),
            },
        ],
        webhook: None,
        deduplicates_for_s: None,
        replays_for_s: None,
        single_receiver: true,
        terminal: false,
        folder: None,
        powerless_imports: Vec::new(),
    }
}

fn args() -> AddArgs {
    AddArgs {
        component: "telegram".to_owned(),
        name: Some("family".to_owned()),
        grants: Vec::new(),
        secrets: vec!["bot-token=env:TOKEN".to_owned()],
        settings: vec!["room=7".to_owned()],
        allow: vec!["12345".to_owned()],
        open: false,
        agent: None,
        yes: false,
        learn: false,
    }
}

fn drafted(args: &AddArgs, answers: Option<&str>) -> Result<Draft, String> {
    let mut console = Console::of_answers(answers);
    draft(args, &inspection(), Path::new("sluicegate.toml"), &mut console).map_err(|failure| failure.to_string())
}

fn granted(draft: &Draft) -> Vec<String> {
    draft.grants.iter().map(ToString::to_string).collect()
}

#[test]
fn silence_grants_nothing() {
    let error = drafted(&args(), None).unwrap_err();
    assert!(
        error.contains("--grant https://api.telegram.org --grant https://files.example.org, or --yes"),
        "{error}"
    );
    let refused = drafted(&args(), Some("\nno\n")).unwrap();
    assert_eq!(granted(&refused), Vec::<String>::new());
}

#[test]
fn a_script_grants_what_it_names_and_no_more() {
    let named = AddArgs {
        grants: vec!["https://files.example.org".to_owned()],
        ..args()
    };
    assert_eq!(granted(&drafted(&named, None).unwrap()), ["https://files.example.org"]);
    let all = AddArgs { yes: true, ..args() };
    assert_eq!(
        granted(&drafted(&all, None).unwrap()),
        ["https://api.telegram.org", "https://files.example.org"]
    );
}

#[test]
fn a_person_answers_for_each_thing() {
    let bare = AddArgs {
        secrets: Vec::new(),
        settings: Vec::new(),
        allow: Vec::new(),
        ..args()
    };
    let draft = drafted(&bare, Some("9\nfile:/run/token\ny\nn\n1, 2\n")).unwrap();
    assert_eq!(draft.settings["room"], SettingValue::Integer(9));
    assert_eq!(draft.secrets["bot-token"], SecretSource::File("/run/token".into()));
    assert_eq!(granted(&draft), ["https://api.telegram.org"]);
    assert_eq!(
        draft.access,
        Some(Access::Allow(["1".to_owned(), "2".to_owned()].into()))
    );
}

#[test]
fn a_setting_moves_the_endpoint_that_is_asked_for() {
    let args = AddArgs {
        settings: vec![
            "room=7".to_owned(),
            "api-base=https://bots.example.org:8443/x".to_owned(),
        ],
        yes: true,
        ..args()
    };
    assert_eq!(
        granted(&drafted(&args, None).unwrap())[0],
        "https://bots.example.org:8443"
    );
}

#[test]
fn each_slip_has_its_remedy() {
    let cases = [
        (
            AddArgs {
                settings: Vec::new(),
                ..args()
            },
            "--set room=VALUE",
        ),
        (
            AddArgs {
                settings: vec!["romo=1".to_owned()],
                ..args()
            },
            "did you mean room?",
        ),
        (
            AddArgs {
                settings: vec!["room=x".to_owned()],
                ..args()
            },
            "must be a number",
        ),
        (
            AddArgs {
                secrets: Vec::new(),
                ..args()
            },
            "--secret bot-token=env:VARIABLE",
        ),
        (
            AddArgs {
                allow: Vec::new(),
                yes: true,
                ..args()
            },
            "--allow ID",
        ),
        (
            AddArgs {
                grants: vec!["api.telegram.org".to_owned()],
                ..args()
            },
            "must start with http",
        ),
        (
            AddArgs {
                name: Some("Family".to_owned()),
                ..args()
            },
            "must start with a letter",
        ),
    ];
    for (args, expected) in cases {
        let error = drafted(&args, None).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_secret_on_the_command_line_is_refused_and_not_repeated() {
    for text in ["bot-token=123:hunter2", "hunter2"] {
        let error = drafted(
            &AddArgs {
                secrets: vec![text.to_owned()],
                ..args()
            },
            None,
        )
        .unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn the_end_of_input_changes_nothing() {
    let error = drafted(&args(), Some("y\n")).unwrap_err();
    assert!(error.contains("nothing was changed"), "{error}");
}
