//! Identifiers that users see.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// The id of one client request: `req_` and 24 lower-case hex digits, unique for all practical purposes.
/// It is sent back as `x-request-id` and names the request's record.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 12]);

impl RequestId {
    /// Makes an id from the time since the Unix epoch and from random bits, which the caller draws. The time stands first, to 15 microseconds,
    /// so that a database's index of ids grows at its end; 48 of the bits are behind it.
    pub fn at(time: Duration, random: u64) -> Self {
        let part = (u64::from(time.subsec_nanos()) << 16) / 1_000_000_000;
        Self::of(u32::try_from(time.as_secs()).unwrap_or(u32::MAX), part << 48 | random >> 16)
    }

    /// Makes an id from seconds since the Unix epoch and from what follows them.
    pub fn of(seconds: u32, random: u64) -> Self {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&seconds.to_be_bytes());
        bytes[4..].copy_from_slice(&random.to_be_bytes());
        Self(bytes)
    }

    /// The id of a text as it is displayed; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 12];
        hex::decode_to_slice(text.trim().strip_prefix("req_")?, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// What stands behind the prefix.
    pub fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }

    /// The same as hex: ids derived from the request (`chatcmpl-…`) are made of it.
    pub fn hex(&self) -> String {
        // `hex::encode` goes character by character.
        let mut text = [0u8; 24];
        let _ = hex::encode_to_slice(self.0, &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 24];
        // The buffer is exactly twice the input, so encoding cannot fail.
        let _ = hex::encode_to_slice(self.0, &mut text);
        f.write_str("req_")?;
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// For people as it is displayed, otherwise its bytes.
impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return Deserialize::deserialize(deserializer).map(Self);
        }
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not the id of a request"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_the_order_of_their_times() {
        let id = |nanos, random| RequestId::at(Duration::new(0x0102_0304, nanos), random);
        assert_eq!(id(0, u64::MAX).hex(), "010203040000ffffffffffff");
        assert_eq!(id(999_999_999, 0).hex(), "01020304ffff000000000000");
        assert!((0..60_000).all(|step| id(step * 16_000, u64::MAX).hex() < id((step + 1) * 16_000, 0).hex()));
    }

    #[test]
    fn is_printed_with_its_prefix_and_all_its_bits() {
        let id = RequestId::of(0x0102_0304, 0xff);
        assert_eq!(id.to_string(), "req_0102030400000000000000ff");
        assert_eq!(id.hex(), "0102030400000000000000ff");
        assert_eq!(RequestId::parse(&id.to_string()), Some(id));
        assert_eq!(serde_json::to_value(id).unwrap(), "req_0102030400000000000000ff");
        assert_eq!(serde_json::from_str::<RequestId>(r#""req_0102030400000000000000ff""#).unwrap(), id);
        assert_eq!(RequestId::parse("req_01"), None);
        assert_eq!(RequestId::parse("0102030400000000000000ff"), None);
    }
}
