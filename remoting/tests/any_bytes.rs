//! No bytes make the readers panic, and what is written is read back as it was.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what is wrong by failing")]

use gantry_remoting::command::length_after;
use gantry_remoting::{Command, fastjson, properties};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

fn config() -> ProptestConfig {
    // A failure prints its input; there is no file to keep beside it.
    let failure_persistence: Option<Box<dyn proptest::test_runner::FailurePersistence>> =
        Some(Box::new(FileFailurePersistence::Off));
    ProptestConfig { cases: 512, failure_persistence, ..ProptestConfig::default() }
}

fn command() -> impl Strategy<Value = Command> {
    let ext = prop::collection::btree_map(".*", ".*", 0..8);
    let body = prop::collection::vec(any::<u8>(), 0..200);
    let numbers = any::<(i32, i32, i32, i32)>();
    (numbers, ".*", prop::option::of(".*"), ext, body).prop_map(
        |((code, version, opaque, flag), language, remark, ext, body)| Command {
            code,
            language,
            version,
            opaque,
            flag,
            remark,
            ext,
            body,
        },
    )
}

/// A header in the engine's binary form; codes and versions have 16 bits there.
fn binary(command: &Command) -> Vec<u8> {
    fn text(bytes: &mut Vec<u8>, text: &str) {
        bytes.extend((text.len() as i32).to_be_bytes());
        bytes.extend(text.bytes());
    }
    let mut header = Vec::new();
    header.extend((command.code as i16).to_be_bytes());
    header.push(12);
    header.extend((command.version as i16).to_be_bytes());
    header.extend(command.opaque.to_be_bytes());
    header.extend(command.flag.to_be_bytes());
    text(&mut header, command.remark.as_deref().unwrap_or_default());
    let mut fields = Vec::new();
    for (key, value) in &command.ext {
        fields.extend((key.len() as i16).to_be_bytes());
        fields.extend(key.bytes());
        text(&mut fields, value);
    }
    header.extend((fields.len() as i32).to_be_bytes());
    header.extend(fields);
    frame(1, &header, &command.body)
}

fn frame(serialisation: u8, header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut frame = ((4 + header.len() + body.len()) as u32).to_be_bytes().to_vec();
    frame.extend(((u32::from(serialisation) << 24) | header.len() as u32).to_be_bytes());
    frame.extend(header);
    frame.extend(body);
    frame
}

/// Text that looks like the engine's JSON more often than chance would have it.
fn almost_json() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "{", "}", "[", "]", ":", ",", "\"", "'", "\\", "\\u12", "\\ud83d", "\\x4", "0", "-1.5e3", "7L", "null", "NaN",
        "tr", "ü", " ", "{0:", "{{", "}:", "\"a\"", "topic",
    ]);
    prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        // Eighths: the strict reader rounds the last digit of others differently.
        (-80_000..80_000).prop_map(|eighths: i32| (f64::from(eighths) / 8.0).into()),
        ".*".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::btree_map(".*", inner, 0..8).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_command_is_read_back_as_it_was_written(command in command()) {
        prop_assert_eq!(Command::decode(&command.encode().unwrap()).unwrap(), command);
    }

    #[test]
    fn a_command_in_binary_form_is_read_back_as_it_was_written(mut command in command()) {
        command.language = "RUST".to_owned();
        (command.code, command.version) = (i32::from(command.code as i16), i32::from(command.version as i16));
        command.remark = command.remark.filter(|remark| !remark.is_empty());
        prop_assert_eq!(Command::decode(&binary(&command)).unwrap(), command);
    }

    #[test]
    fn no_bytes_make_the_frame_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Command::decode(&bytes);
        let _ = Command::decode_after_prefix(&bytes);
        for serialisation in 0..3 {
            let _ = Command::decode(&frame(serialisation, &bytes, b"body"));
        }
    }

    #[test]
    fn no_change_of_one_byte_makes_the_frame_reader_panic(command in command(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for mut frame in [command.encode().unwrap(), binary(&command)] {
            let at = at.index(frame.len());
            frame[at] = byte;
            let _ = Command::decode(&frame);
        }
    }

    #[test]
    fn a_length_is_either_small_enough_or_an_error(prefix in any::<[u8; 4]>()) {
        prop_assert!(length_after(prefix).is_err() || length_after(prefix).unwrap() <= 64 * 1024 * 1024);
    }

    #[test]
    fn no_bytes_make_the_json_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = fastjson::parse(&bytes);
        let _ = fastjson::from_slice::<serde_json::Value>(&bytes);
    }

    #[test]
    fn nothing_that_looks_like_json_makes_the_json_reader_panic(text in almost_json()) {
        let _ = fastjson::parse(text.as_bytes());
    }

    #[test]
    fn json_is_read_as_a_strict_reader_reads_it(value in json()) {
        let text = serde_json::to_vec(&value).unwrap();
        let strict: serde_json::Value = serde_json::from_slice(&text).unwrap();
        prop_assert_eq!(fastjson::parse(&text).unwrap(), strict);
    }

    #[test]
    fn properties_never_break_into_more_keys_than_there_are(properties in prop::collection::btree_map(".+", ".*", 0..6)) {
        let lines = properties::format(&properties).lines().filter(|line| !line.is_empty()).count();
        // Lines end at line feeds only; other characters that Java takes for none stay inside.
        prop_assert_eq!(lines, properties.len());
    }
}
