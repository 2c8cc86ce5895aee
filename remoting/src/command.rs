//! One frame of the protocol.
//!
//! ```text
//! u32 length of all that follows | u8 serialisation, u24 header length | header | body
//! ```
//! The header is JSON (0) or the engine's binary form (1); both are read, JSON is written.

use std::collections::BTreeMap;
use std::fmt;

use crate::code::{Code, ResponseCode};
use crate::header;

/// The longest frame that is read, in bytes. The engine's answers to list requests grow with the number of topics: about 190
/// bytes each, so this is room for some 350,000 of them, and a bound on what a stray peer can make us allocate.
pub const MAX_FRAME: usize = 64 * 1024 * 1024;

/// The longest frame that the engine accepts, in bytes (`com.rocketmq.remoting.frameMaxLength` of NettyDecoder); it closes the
/// connection without an answer on a longer one, so it is refused here before it is sent.
pub const MAX_REQUEST_FRAME: usize = 16 * 1024 * 1024;

/// Bytes of the length prefix.
pub const PREFIX: usize = 4;

/// `MQVersion.V5_5_0.ordinal()`. From 401 (V4_9_4) on a name server answers route requests in strict JSON.
pub const VERSION: i32 = 513;

const RESPONSE_FLAG: i32 = 1;
const ONEWAY_FLAG: i32 = 2;

/// A request or a response.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    /// A [`Code`] of a request, a [`ResponseCode`] of a response.
    pub code: i32,
    /// The sender's language, as the engine spells it.
    pub language: String,
    /// The sender's version, an ordinal of the engine's MQVersion.
    pub version: i32,
    /// Ties a response to its request; unique among the requests under way on one connection.
    pub opaque: i32,
    /// Bit 0: a response; bit 1: no response is wanted.
    pub flag: i32,
    /// What the engine says in words. On success it means nothing (it may read "not set any response code").
    pub remark: Option<String>,
    /// Header fields of the single request or response, all of them strings.
    pub ext: BTreeMap<String, String>,
    /// The body; empty where there is none.
    pub body: Vec<u8>,
}

impl Command {
    /// A request without fields and body, of this crate's language and version.
    #[must_use]
    pub fn request(code: Code) -> Self {
        Command {
            code: code.number(),
            language: "RUST".to_owned(),
            version: VERSION,
            opaque: 0,
            flag: 0,
            remark: None,
            ext: BTreeMap::new(),
            body: Vec::new(),
        }
    }

    /// The same with one more header field.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.ext.insert(key.to_owned(), value.to_string());
        self
    }

    /// The same with a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The code read as that of a response.
    #[must_use]
    pub fn response_code(&self) -> ResponseCode {
        ResponseCode::from(self.code)
    }

    /// True for a response; the engine also sends requests of its own to its clients.
    #[must_use]
    pub fn is_response(&self) -> bool {
        self.flag & RESPONSE_FLAG != 0
    }

    /// True when the sender waits for no response.
    #[must_use]
    pub fn is_oneway(&self) -> bool {
        self.flag & ONEWAY_FLAG != 0
    }

    /// The whole frame, its length prefix included.
    ///
    /// # Errors
    /// When it is longer than the engine reads ([`MAX_REQUEST_FRAME`]).
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let header = header::to_json(self);
        let length = PREFIX + header.len() + self.body.len();
        if length > MAX_REQUEST_FRAME {
            return Err(EncodeError::TooLong { length });
        }
        // Both lengths fit: they are at most 16 MiB, and the header's 24 bits hold up to 16 MiB - 1 (it is shorter than the frame).
        let mut frame = Vec::with_capacity(PREFIX + length);
        frame.extend_from_slice(&(length as u32).to_be_bytes());
        frame.extend_from_slice(&(header.len() as u32).to_be_bytes());
        frame.extend_from_slice(&header);
        frame.extend_from_slice(&self.body);
        Ok(frame)
    }

    /// Reads one whole frame, its length prefix included.
    ///
    /// # Errors
    /// When it is cut short, longer than it says or than [`MAX_FRAME`], or when its header is not understood.
    pub fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        let prefix = frame.first_chunk::<PREFIX>().ok_or(DecodeError::CutShort)?;
        let length = length_after(*prefix)?;
        let rest = &frame[PREFIX..];
        match rest.len() {
            have if have < length => Err(DecodeError::CutShort),
            have if have > length => Err(DecodeError::Trailing { bytes: have - length }),
            _ => Self::decode_after_prefix(rest),
        }
    }

    /// Reads what follows the length prefix of a frame: for readers of a stream, after [`length_after`].
    ///
    /// # Errors
    /// When the header is longer than the frame, or is not understood.
    pub fn decode_after_prefix(rest: &[u8]) -> Result<Self, DecodeError> {
        let (word, rest) = rest.split_first_chunk::<4>().ok_or(DecodeError::CutShort)?;
        let word = u32::from_be_bytes(*word);
        let header_length = (word & 0x00ff_ffff) as usize;
        let serialisation = (word >> 24) as u8;
        if header_length > rest.len() {
            return Err(DecodeError::HeaderTooLong { header: header_length, frame: rest.len() });
        }
        let (header, body) = rest.split_at(header_length);
        let mut command = match serialisation {
            0 => header::from_json(header)?,
            1 => header::from_binary(header)?,
            other => return Err(DecodeError::Serialisation(other)),
        };
        command.body = body.to_vec();
        Ok(command)
    }
}

/// How many bytes follow a frame's length prefix.
///
/// # Errors
/// When it is more than [`MAX_FRAME`]: what sends this is not the engine, or the stream is out of step.
pub fn length_after(prefix: [u8; PREFIX]) -> Result<usize, DecodeError> {
    let length = u32::from_be_bytes(prefix) as usize;
    if length > MAX_FRAME {
        return Err(DecodeError::TooLong { length });
    }
    Ok(length)
}

/// Neither the values of fields nor the body: there are signatures and passwords among them.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("code", &self.code)
            .field("language", &self.language)
            .field("version", &self.version)
            .field("opaque", &self.opaque)
            .field("flag", &self.flag)
            .field("remark", &self.remark)
            .field("ext", &self.ext.keys())
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

/// Why a command can't be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The engine would close the connection.
    #[error("a frame of {length} bytes is longer than the {MAX_REQUEST_FRAME} that the engine reads")]
    TooLong {
        /// Bytes after the length prefix.
        length: usize,
    },
}

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Bytes are missing at the end.
    #[error("the frame is cut short")]
    CutShort,
    /// Bytes follow the end of the frame.
    #[error("{bytes} bytes follow the end of the frame")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// The frame is longer than anything the engine sends.
    #[error("a frame of {length} bytes is longer than {MAX_FRAME}")]
    TooLong {
        /// Bytes announced by the length prefix.
        length: usize,
    },
    /// The header claims to be longer than the frame.
    #[error("a header of {header} bytes in a frame of {frame}")]
    HeaderTooLong {
        /// Bytes announced.
        header: usize,
        /// Bytes there.
        frame: usize,
    },
    /// Neither JSON (0) nor the engine's binary form (1).
    #[error("unknown header serialisation {0}")]
    Serialisation(u8),
    /// A JSON header that is none, or lacks a field.
    #[error("the JSON header is not understood")]
    JsonHeader(#[source] serde_json::Error),
    /// A binary header that contradicts itself.
    #[error("the binary header is not understood: {0}")]
    BinaryHeader(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_field_values_nor_the_body() {
        let command = Command::request(Code::AuthCreateUser).with("Signature", "s3cret").body("p4ssword");
        let shown = format!("{command:?}");
        assert!(shown.contains("Signature") && shown.contains("8 bytes"), "{shown}");
        assert!(!shown.contains("s3cret") && !shown.contains("p4ssword"), "{shown}");
    }

    #[test]
    fn a_frame_longer_than_the_engine_reads_is_refused_before_it_is_sent() {
        let command = Command::request(Code::UpdateAndCreateTopicList).body(vec![0; MAX_REQUEST_FRAME]);
        assert!(matches!(command.encode(), Err(EncodeError::TooLong { length }) if length > MAX_REQUEST_FRAME));
    }

    #[test]
    fn a_frame_that_announces_too_much_is_refused_before_it_is_read() {
        assert!(matches!(length_after([0xff; 4]), Err(DecodeError::TooLong { .. })));
        // What a browser or a TLS client would send.
        assert!(length_after(*b"GET ").is_err());
        assert!(length_after([0x16, 0x03, 0x01, 0x02]).is_err());
    }

    #[test]
    fn a_frame_cut_short_is_an_error_not_a_panic() {
        let frame = Command::request(Code::GetBrokerRuntimeInfo).with("a", "b").body("body").encode().unwrap();
        for end in 0..frame.len() {
            assert!(Command::decode(&frame[..end]).is_err(), "{end} bytes were taken for a frame");
        }
        assert!(Command::decode(&frame).is_ok());
    }

    #[test]
    fn bytes_after_the_frame_are_an_error() {
        let mut frame = Command::request(Code::GetBrokerRuntimeInfo).encode().unwrap();
        frame.push(0);
        assert!(matches!(Command::decode(&frame), Err(DecodeError::Trailing { bytes: 1 })));
    }
}
