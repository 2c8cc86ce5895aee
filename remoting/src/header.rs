//! The two forms of a command's header.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::command::{Command, DecodeError};

/// LanguageCode.java: the position is the code on the wire.
const LANGUAGES: [&str; 14] = [
    "JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS", "RUST",
    "NODE_JS",
];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonOut<'a> {
    code: i32,
    language: &'a str,
    version: i32,
    opaque: i32,
    flag: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<&'a str>,
    ext_fields: &'a BTreeMap<String, String>,
    #[serde(rename = "serializeTypeCurrentRPC")]
    serialisation: &'static str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonIn {
    code: i32,
    #[serde(default)]
    language: Option<String>,
    #[serde(default)]
    version: i32,
    #[serde(default)]
    opaque: i32,
    #[serde(default)]
    flag: i32,
    #[serde(default)]
    remark: Option<String>,
    #[serde(default, deserialize_with = "strings")]
    ext_fields: BTreeMap<String, String>,
}

/// Fields as strings; the engine writes strings only, but other implementations write numbers and nulls.
fn strings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Scalar {
        Text(String),
        Other(serde_json::Value),
    }
    let fields: Option<BTreeMap<String, Option<Scalar>>> = Deserialize::deserialize(deserializer)?;
    let text = |scalar| match scalar {
        Scalar::Text(text) => text,
        Scalar::Other(value) => value.to_string(),
    };
    Ok(fields.unwrap_or_default().into_iter().filter_map(|(key, value)| Some((key, text(value?)))).collect())
}

pub(crate) fn to_json(command: &Command) -> Vec<u8> {
    let header = JsonOut {
        code: command.code,
        language: &command.language,
        version: command.version,
        opaque: command.opaque,
        flag: command.flag,
        remark: command.remark.as_deref(),
        ext_fields: &command.ext,
        serialisation: "JSON",
    };
    // Strings, numbers and a map with string keys: there is nothing in it that JSON can't hold.
    serde_json::to_vec(&header).unwrap_or_default()
}

pub(crate) fn from_json(bytes: &[u8]) -> Result<Command, DecodeError> {
    let header: JsonIn = serde_json::from_slice(bytes).map_err(DecodeError::JsonHeader)?;
    Ok(Command {
        code: header.code,
        language: header.language.unwrap_or_else(|| "OTHER".to_owned()),
        version: header.version,
        opaque: header.opaque,
        flag: header.flag,
        remark: header.remark,
        ext: header.ext_fields,
        body: Vec::new(),
    })
}

/// RocketMQSerializable.java: i16 code, i8 language, i16 version, i32 opaque, i32 flag, i32-long remark, i32-long fields.
pub(crate) fn from_binary(bytes: &[u8]) -> Result<Command, DecodeError> {
    let mut reader = Reader(bytes);
    let code = i32::from(reader.i16()?);
    let language = reader.take(1)?[0];
    let version = i32::from(reader.i16()?);
    let opaque = reader.i32()?;
    let flag = reader.i32()?;
    let length = reader.length()?;
    let remark = if length == 0 { None } else { Some(reader.text(length)?) };
    let length = reader.length()?;
    let mut fields = Reader(reader.take(length)?);
    let mut ext = BTreeMap::new();
    while !fields.0.is_empty() {
        let length = usize::try_from(fields.i16()?).map_err(|_| DecodeError::BinaryHeader("a negative length"))?;
        let key = fields.text(length)?;
        let length = fields.length()?;
        ext.insert(key, fields.text(length)?);
    }
    let language = LANGUAGES.get(usize::from(language)).copied().unwrap_or("OTHER").to_owned();
    Ok(Command { code, language, version, opaque, flag, remark, ext, body: Vec::new() })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        if length > self.0.len() {
            return Err(DecodeError::BinaryHeader("a field reaches beyond the end"));
        }
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) =
            self.0.split_first_chunk::<N>().ok_or(DecodeError::BinaryHeader("a number reaches beyond the end"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    fn length(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(self.i32()?).map_err(|_| DecodeError::BinaryHeader("a negative length"))
    }

    fn text(&mut self, length: usize) -> Result<String, DecodeError> {
        let bytes = self.take(length)?.to_vec();
        String::from_utf8(bytes).map_err(|_| DecodeError::BinaryHeader("text that is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by RemotingCommand.encode() of 5.5.0 with SerializeType.ROCKETMQ.
    const BINARY: &str = "000000ac010000a100110c020100000007000000000000000372c3a90000008900094163636573734b657900000008726d7161\
646d696e000a61747472696275746573000000122b6d6573736167652e747970653d4649464f0005746f706963000000066f7264657273000d72656164517565\
75654e756d73000000013800095369676e61747572650000001c50727135474d705550516e724d627a436f654f6647356b454c57553d626f64792dc3bc";

    /// The same command, written by the same with SerializeType.JSON.
    const JSON: &str = r#"{"code":17,"extFields":{"AccessKey":"rmqadmin","attributes":"+message.type=FIFO","topic":"orders","readQueueNums":"8","Signature":"Prq5GMpUPQnrMbzCoeOfG5kELWU="},"flag":0,"language":"RUST","opaque":7,"remark":"ré","serializeTypeCurrentRPC":"JSON","version":513}"#;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn both_serialisations_of_the_engine_are_read_as_the_same_command() {
        let binary = Command::decode(&hex(BINARY)).unwrap();
        let mut json = from_json(JSON.as_bytes()).unwrap();
        json.body = "body-ü".as_bytes().to_vec();
        assert_eq!(binary, json);
        assert_eq!((binary.code, binary.version, binary.opaque), (17, 513, 7));
        assert_eq!((binary.language.as_str(), binary.remark.as_deref()), ("RUST", Some("ré")));
        assert_eq!(binary.ext["attributes"], "+message.type=FIFO");
    }

    #[test]
    fn a_binary_header_cut_anywhere_is_an_error_not_a_panic() {
        let frame = hex(BINARY);
        let header = &frame[8..8 + 0xa1];
        assert!(from_binary(header).is_ok());
        for end in 0..header.len() {
            assert!(from_binary(&header[..end]).is_err(), "{end} bytes were taken for a header");
        }
    }

    #[test]
    fn fields_that_are_numbers_or_null_are_read_as_text_or_as_absent() {
        let command = from_json(br#"{"code":0,"extFields":{"a":1,"b":null,"c":"x","d":true},"remark":null}"#).unwrap();
        let fields: Vec<_> = command.ext.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(fields, ["a=1", "c=x", "d=true"]);
        assert!(from_json(br#"{"code":0,"extFields":null}"#).unwrap().ext.is_empty());
    }
}
