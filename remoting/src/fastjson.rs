//! A reader for what the engine's JSON library writes where JSON has no word for it.
//!
//! Beyond JSON it takes:
//! - keys that are numbers, words or in single quotes: `{0:"a"}` becomes `{"0":"a"}`;
//! - keys that are objects or arrays: `{{"topic":"t"}:{"n":1}}` becomes the array of pairs `[[{"topic":"t"},{"n":1}]]`. One such key
//!   makes the whole object an array of pairs, a key that is text then being a string. An empty map stays `{}`; [`pairs`] reads both;
//! - a comma too many before `}` or `]`, and a type letter after a number (`1L`, `0.5D`);
//! - `NaN` and `Infinity`, which become null as in the library itself.
//!
//! What is left after that is an ordinary [`serde_json::Value`]. Nesting is bounded, and no input makes the reader panic.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, de};
use serde_json::{Map, Number, Value};

/// The deepest nesting that is read; the engine's bodies have at most 6 levels.
pub const MAX_DEPTH: usize = 64;

/// Why bytes are not even the engine's JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {at}")]
pub struct Error {
    /// What is wrong.
    problem: &'static str,
    /// Where, counted from 0.
    at: usize,
}

/// Why a body is not what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// It is not even the engine's JSON.
    #[error(transparent)]
    Syntax(#[from] Error),
    /// It lacks something or holds something else.
    #[error(transparent)]
    Shape(#[from] serde_json::Error),
}

/// Reads a body into a type. Most bodies are strict JSON: those are read at once, the others through a [`Value`].
///
/// # Errors
/// When it is neither JSON nor what the engine writes instead, or not of that shape.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BodyError> {
    match serde_json::from_slice(bytes) {
        Ok(value) => Ok(value),
        Err(error) if error.is_syntax() => Ok(serde_json::from_value(parse(bytes)?)?),
        Err(error) => Err(BodyError::Shape(error)),
    }
}

/// Reads a body into a value.
///
/// # Errors
/// When it is neither JSON nor what the engine writes instead.
pub fn parse(bytes: &[u8]) -> Result<Value, Error> {
    let mut reader = Reader { bytes, at: 0 };
    let value = reader.value(0)?;
    reader.space();
    if reader.at < bytes.len() {
        return Err(reader.error("something follows the end"));
    }
    Ok(value)
}

/// For `#[serde(deserialize_with)]`: a map whose keys are objects, as an array of pairs, or as `{}` when it is empty.
///
/// # Errors
/// When it is neither.
pub fn pairs<'de, D, K, V>(deserializer: D) -> Result<Vec<(K, V)>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de>,
    V: Deserialize<'de>,
{
    struct Pairs<K, V>(std::marker::PhantomData<(K, V)>);
    impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> de::Visitor<'de> for Pairs<K, V> {
        type Value = Vec<(K, V)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of pairs, or an empty map")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut pairs: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(pair) = pairs.next_element()? {
                all.push(pair);
            }
            Ok(all)
        }

        fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            match map.next_key::<String>()? {
                None => Ok(Vec::new()),
                Some(key) => Err(de::Error::invalid_value(de::Unexpected::Str(&key), &"a key that is an object")),
            }
        }
    }
    deserializer.deserialize_any(Pairs(std::marker::PhantomData))
}

enum Key {
    Text(String),
    Value(Value),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn error(&self, problem: &'static str) -> Error {
        Error { problem, at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, problem: &'static str) -> Result<(), Error> {
        self.space();
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(self.error(problem))
    }

    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        if depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        self.space();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(quote @ (b'"' | b'\'')) => self.string(quote).map(Value::String),
            Some(b'-' | b'+' | b'0'..=b'9') => self.number(),
            Some(_) => self.word(),
            None => Err(self.error("it ends too early")),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, Error> {
        self.at += 1;
        let mut items = Vec::new();
        while !self.ends(b']', items.is_empty())? {
            if self.peek() == Some(b']') {
                continue;
            }
            items.push(self.value(depth + 1)?);
        }
        Ok(Value::Array(items))
    }

    /// True when the closing bracket comes, past it then; else past the comma before the next item.
    fn ends(&mut self, close: u8, first: bool) -> Result<bool, Error> {
        self.space();
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                return Ok(true);
            }
            Some(b',') if !first => self.at += 1,
            Some(_) if first => {}
            Some(_) => return Err(self.error("a comma is missing")),
            None => return Err(self.error("it ends too early")),
        }
        self.space();
        Ok(false)
    }

    fn object(&mut self, depth: usize) -> Result<Value, Error> {
        self.at += 1;
        let mut entries: Vec<(Key, Value)> = Vec::new();
        let mut plain = true;
        while !self.ends(b'}', entries.is_empty())? {
            if self.peek() == Some(b'}') {
                continue;
            }
            let key = self.key(depth)?;
            plain &= matches!(key, Key::Text(_));
            self.expect(b':', "a colon is missing")?;
            entries.push((key, self.value(depth + 1)?));
        }
        if plain {
            let text = |(key, value)| match key {
                Key::Text(text) => Some((text, value)),
                Key::Value(_) => None,
            };
            return Ok(Value::Object(entries.into_iter().filter_map(text).collect::<Map<_, _>>()));
        }
        let pair = |(key, value)| match key {
            Key::Text(text) => Value::Array(vec![Value::String(text), value]),
            Key::Value(key) => Value::Array(vec![key, value]),
        };
        Ok(Value::Array(entries.into_iter().map(pair).collect()))
    }

    fn key(&mut self, depth: usize) -> Result<Key, Error> {
        match self.peek() {
            Some(quote @ (b'"' | b'\'')) => self.string(quote).map(Key::Text),
            Some(b'{' | b'[') => self.value(depth + 1).map(Key::Value),
            _ => Ok(Key::Text(self.bare(|byte| byte.is_ascii_alphanumeric() || b"_$.+-".contains(&byte))?.to_owned())),
        }
    }

    fn bare(&mut self, belongs: impl Fn(u8) -> bool) -> Result<&str, Error> {
        let start = self.at;
        while self.peek().is_some_and(&belongs) {
            self.at += 1;
        }
        match std::str::from_utf8(&self.bytes[start..self.at]) {
            Ok(text) if !text.is_empty() => Ok(text),
            _ => Err(Error { problem: "neither a value nor a key", at: start }),
        }
    }

    fn word(&mut self) -> Result<Value, Error> {
        let start = self.at;
        match self.bare(|byte| byte.is_ascii_alphabetic())? {
            "null" | "NaN" | "Infinity" | "undefined" => Ok(Value::Null),
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(Error { problem: "an unknown word", at: start }),
        }
    }

    fn number(&mut self) -> Result<Value, Error> {
        let start = self.at;
        let text = self.bare(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))?;
        let digits = text.trim_start_matches('+');
        // The letter that the library adds when it is told to keep types.
        let digits = if digits.ends_with(['L', 'S', 'B', 'F', 'D']) { &digits[..digits.len() - 1] } else { digits };
        if let Ok(number) = digits.parse::<i64>() {
            return Ok(Value::Number(number.into()));
        }
        if let Ok(number) = digits.parse::<u64>() {
            return Ok(Value::Number(number.into()));
        }
        match digits.parse::<f64>() {
            Ok(number) => Ok(Number::from_f64(number).map_or(Value::Null, Value::Number)),
            Err(_) => Err(Error { problem: "a number that is none", at: start }),
        }
    }

    fn string(&mut self, quote: u8) -> Result<String, Error> {
        let start = self.at;
        self.at += 1;
        let mut text = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.error("a string without an end")),
                Some(byte) if byte == quote => break,
                Some(b'\\') => self.escape(&mut text)?,
                Some(byte) => {
                    text.push(byte);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        String::from_utf8(text).map_err(|_| Error { problem: "a string that is not UTF-8", at: start })
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), Error> {
        let escaped = *self.bytes.get(self.at + 1).ok_or_else(|| self.error("a string without an end"))?;
        let plain = match escaped {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            b'u' => return self.unicode(text),
            b'x' => {
                let code = self.hex(self.at + 2, 2)?;
                self.at += 4;
                push(text, code);
                return Ok(());
            }
            other => other,
        };
        text.push(plain);
        self.at += 2;
        Ok(())
    }

    /// `\uXXXX`, or two of them for a character beyond the basic plane; half a pair becomes the replacement character.
    fn unicode(&mut self, text: &mut Vec<u8>) -> Result<(), Error> {
        let first = self.hex(self.at + 2, 4)?;
        self.at += 6;
        let paired = (0xd800..0xdc00).contains(&first) && self.bytes.get(self.at..self.at + 2) == Some(br"\u");
        if paired {
            let second = self.hex(self.at + 2, 4)?;
            if (0xdc00..0xe000).contains(&second) {
                self.at += 6;
                push(text, 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
                return Ok(());
            }
        }
        push(text, first);
        Ok(())
    }

    fn hex(&self, from: usize, digits: usize) -> Result<u32, Error> {
        let bytes = self.bytes.get(from..from + digits).filter(|bytes| bytes.iter().all(u8::is_ascii_hexdigit));
        let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.and_then(|text| u32::from_str_radix(text, 16).ok()).ok_or_else(|| self.error("an escape that is none"))
    }
}

fn push(text: &mut Vec<u8>, code: u32) {
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Value {
        parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn json_is_read_as_json() {
        for text in
            [r#"{"a":[1,-2,3.5,1e3,true,false,null,"x\n\"\u00e4\ud83d\ude00"],"b":{}}"#, "[]", "0", r#""""#, " { } "]
        {
            assert_eq!(read(text), serde_json::from_str::<Value>(text).unwrap(), "{text}");
        }
        assert_eq!(read("9223372036854775807"), json!(i64::MAX));
    }

    #[test]
    fn keys_may_be_numbers_and_words() {
        assert_eq!(read(r#"{0:"a",-1:"b",word:'c'}"#), json!({"0": "a", "-1": "b", "word": "c"}));
    }

    #[test]
    fn keys_that_are_objects_make_an_array_of_pairs() {
        let text = r#"{"offsetTable":{{"queueId":2}:{"maxOffset":7},{"queueId":3}:{"maxOffset":8}},"topicPutTps":0.0}"#;
        let pairs = json!([[{"queueId": 2}, {"maxOffset": 7}], [{"queueId": 3}, {"maxOffset": 8}]]);
        assert_eq!(read(text), json!({"offsetTable": pairs, "topicPutTps": 0.0}));
        assert_eq!(read(r#"{{"a":1}:2,"b":3}"#), json!([[{"a": 1}, 2], ["b", 3]]));
    }

    #[test]
    fn type_letters_commas_too_many_and_not_a_number_are_read() {
        assert_eq!(read(r#"{"a":1L,"b":0.5D,"c":NaN,"d":[1,2,],}"#), json!({"a": 1, "b": 0.5, "c": null, "d": [1, 2]}));
    }

    #[test]
    fn what_is_neither_is_an_error_with_its_place() {
        for text in [
            "",
            "{",
            "[1 2]",
            "{\"a\" 1}",
            "{a}",
            "\"x",
            "tru",
            "1 2",
            "{,}",
            "[,]",
            "--1",
            "\"\\u12\"",
            "\"\\",
            "{{}}",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?} was read as {:?}", parse(text.as_bytes()));
        }
        assert_eq!(parse(b"[1 2]").unwrap_err().to_string(), "a comma is missing at byte 3");
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = "[".repeat(100_000);
        assert_eq!(parse(deep.as_bytes()).unwrap_err().problem, "nested too deeply");
        let keys = "{".repeat(100_000);
        assert_eq!(parse(keys.as_bytes()).unwrap_err().problem, "nested too deeply");
    }

    #[test]
    fn pairs_are_read_from_an_array_of_pairs_and_from_an_empty_map() {
        #[derive(Deserialize)]
        struct Table {
            #[serde(deserialize_with = "pairs")]
            table: Vec<(Value, i64)>,
        }
        let full: Table = from_slice(br#"{"table":{{"a":1}:2}}"#).unwrap();
        assert_eq!(full.table, [(json!({"a": 1}), 2)]);
        let empty: Table = from_slice(br#"{"table":{}}"#).unwrap();
        assert!(empty.table.is_empty());
        assert!(from_slice::<Table>(br#"{"table":{"a":2}}"#).is_err());
    }
}
