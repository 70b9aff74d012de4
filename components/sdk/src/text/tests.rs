use proptest::prelude::*;

use super::*;

const UNITS: [Unit; 3] = [Unit::Bytes, Unit::Utf16, Unit::CodePoints];

fn utf16(text: &str, limit: usize) -> Vec<String> {
    split(text, limit, Unit::Utf16)
}

#[test]
fn a_short_text_stays_as_it_is() {
    assert_eq!(utf16("hello", 16), ["hello"]);
    assert_eq!(utf16("```\nnot closed", 16), ["```\nnot closed"]);
    assert!(utf16("", 16).is_empty());
}

#[test]
fn the_unit_decides_what_fits() {
    let text = "😀".repeat(16);
    assert_eq!(split(&text, 16, Unit::CodePoints).len(), 1);
    assert_eq!(split(&text, 16, Unit::Utf16).len(), 2);
    assert_eq!(split(&text, 16, Unit::Bytes).len(), 4);
}

#[test]
fn the_best_border_that_fills_the_part_is_taken() {
    assert_eq!(
        utf16("One two.\n\nthree\nfour five", 20),
        ["One two.\n\n", "three\nfour five"]
    );
    assert_eq!(
        utf16("One two three\nfour five six", 20),
        ["One two three\n", "four five six"]
    );
    assert_eq!(
        utf16("One two. Three four five six", 20),
        ["One two. ", "Three four five six"]
    );
    assert_eq!(
        utf16("One two three four five six", 20),
        ["One two three four ", "five six"]
    );
    assert_eq!(
        utf16("Onetwothreefourfivesixseven", 20),
        ["Onetwothreefourfives", "ixseven"]
    );
}

#[test]
fn a_border_that_leaves_the_part_almost_empty_is_not_taken() {
    assert_eq!(
        utf16("Hi\n\nthis line goes on and on", 20),
        ["Hi\n\nthis line goes ", "on and on"]
    );
}

#[test]
fn a_code_block_is_closed_and_opened_again_with_its_language() {
    let text = "Look:\n```rust\nlet a = 1;\nlet b = 2;\nlet c = 3;\nlet d = 4;\n```\nDone.";
    assert_eq!(
        utf16(text, 44),
        [
            "Look:\n```rust\nlet a = 1;\nlet b = 2;\n```",
            "```rust\nlet c = 3;\nlet d = 4;\n```\nDone."
        ]
    );
}

#[test]
fn a_line_of_code_that_is_too_long_is_cut_inside_its_block() {
    let text = format!("~~~~\n{}\n~~~~", "x".repeat(40));
    let parts = utf16(&text, 32);
    assert!(parts.len() > 1);
    for part in &parts {
        assert!(part.starts_with("~~~~\nx") && part.ends_with("x\n~~~~"), "{part:?}");
    }
}

#[test]
fn an_info_string_without_room_is_left_out() {
    let text = format!("```{}\n{}\n```", "i".repeat(20), "a b c d ".repeat(8));
    let parts = utf16(&text, 40);
    assert!(parts[1].starts_with("```\n"), "{parts:?}");
}

#[test]
fn an_accent_a_family_and_a_flag_stay_whole() {
    for character in ["e\u{301}", "👩\u{200d}👩\u{200d}👧", "🇩🇪", "👍🏽", "\r\n"] {
        for part in utf16(&character.repeat(40), 17) {
            assert_eq!(part.len() % character.len(), 0, "{part:?} is cut inside {character:?}");
        }
    }
}

#[test]
fn a_character_longer_than_a_part_is_cut_between_code_points() {
    let text = format!("e{}", "\u{301}".repeat(50));
    let parts = utf16(&text, 16);
    assert_eq!(parts.concat(), text);
    assert!(parts.iter().all(|part| Unit::Utf16.measure(part) <= 16));
}

#[test]
fn no_part_begins_with_a_fence_that_was_none() {
    let text = "words words words ```words words words";
    let parts = utf16(text, 18);
    assert_eq!(parts.concat(), text);
    assert!(parts.iter().all(|part| !part.starts_with("```")), "{parts:?}");
}

#[test]
fn an_info_string_longer_than_a_part_is_cut_between_characters() {
    let text = format!("```{}\ncode\n```", "👩\u{200d}👧".repeat(20));
    let borders: Vec<usize> = text
        .grapheme_indices(true)
        .map(|(at, _)| at)
        .chain([text.len()])
        .collect();
    let mut at = 0;
    for part in parts(&text, 40, Unit::Utf16) {
        at += part.body.len();
        assert!(borders.contains(&at), "cut inside a character at {at}");
    }
    assert_eq!(at, text.len());
}

/// Texts made of what matters to the splitter: words, borders, fences, and characters of every width.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[a-z]{1,12}",
        4 => Just(" ".to_owned()),
        3 => Just("\n".to_owned()),
        1 => Just("\n\n".to_owned()),
        1 => Just(". ".to_owned()),
        1 => Just("\n```rust\n".to_owned()),
        1 => Just("\n```\n".to_owned()),
        1 => Just("\n~~~~\n".to_owned()),
        1 => Just("```".to_owned()),
        1 => Just("\r\n".to_owned()),
        1 => Just("👩\u{200d}👧e\u{301}🇩🇪".to_owned()),
        1 => "\\PC{0,8}",
    ];
    proptest::collection::vec(piece, 0..80).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn nothing_is_lost_or_added_but_fences(text in texts(), limit in LIMIT_MIN..120) {
        for unit in UNITS {
            let parts = parts(&text, limit, unit);
            let bodies: String = parts.iter().map(|part| part.body).collect();
            prop_assert_eq!(&bodies, &text);
            for part in &parts {
                let open_is_fence = part.open.is_empty() || fence::looks_like_fence(&part.open);
                let close_is_fence = part.close.is_empty() || fence::looks_like_fence(part.close.trim_start());
                prop_assert!(open_is_fence && close_is_fence, "{:?}", part);
            }
        }
    }

    #[test]
    fn every_part_fits_and_says_something(text in texts(), limit in LIMIT_MIN..120) {
        for unit in UNITS {
            for part in parts(&text, limit, unit) {
                prop_assert!(!part.body.is_empty());
                let whole = part.into_string();
                prop_assert!(unit.measure(&whole) <= limit, "{} units in {:?}", unit.measure(&whole), whole);
            }
        }
    }

    #[test]
    fn a_block_is_closed_exactly_where_the_next_part_opens_it(text in texts(), limit in LIMIT_MIN..120) {
        let parts = parts(&text, limit, Unit::Utf16);
        for pair in parts.windows(2) {
            prop_assert_eq!(pair[0].close.trim_start().is_empty(), pair[1].open.is_empty(), "{:?}", pair);
        }
    }

    #[test]
    fn a_character_is_cut_only_where_it_alone_is_too_long(text in texts(), limit in 40_usize..120) {
        let borders: std::collections::HashSet<usize> =
            text.grapheme_indices(true).map(|(at, _)| at).chain([text.len()]).collect();
        let longest = text.graphemes(true).map(|character| Unit::Utf16.measure(character)).max().unwrap_or_default();
        prop_assume!(longest < limit / 2);
        let mut at = 0;
        for part in parts(&text, limit, Unit::Utf16) {
            at += part.body.len();
            prop_assert!(borders.contains(&at), "cut inside a character at {}", at);
        }
    }
}

#[test]
fn choices_become_numbered_lines() {
    let choice = |label: &str| Choice {
        id: "x".to_owned(),
        label: label.to_owned(),
    };
    assert_eq!(
        with_numbered("Sure?", &[choice("Yes"), choice("No")]),
        "Sure?\n\n1. Yes\n2. No"
    );
    assert_eq!(with_numbered("Sure?", &[]), "Sure?");
}
