//! What of a request is paid for by the piece: pictures, characters that are spoken, seconds of sound.
//!
//! Sources: OpenAI's API reference of images (`size`, `quality`, `n`) and audio (`input`, `file`); RIFF WAVE as in Microsoft's
//! "Multimedia Programming Interface and Data Specifications 1.0".

use super::pictures;
use crate::dialect::openai_chat::envelope::Envelope;
use crate::dialect::work::{Endpoint, Work};
use std::time::Duration;

/// Sound that is made for people to talk takes no less than so many bytes a second (6 kbit/s), ...
const FEWEST_BYTES: u64 = 750;
/// ... and mostly as many as these (64 kbit/s).
const USUAL_BYTES: u64 = 8000;

/// What is paid for by the piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    /// Pictures that are to be made.
    pub pictures: u64,
    /// Their size, as the request names it; `None` where that is left to the provider.
    pub size: Option<String>,
    /// Their quality, likewise.
    pub quality: Option<String>,
    /// Characters that are to be spoken.
    pub characters: u64,
    /// The sound that is to be heard.
    pub sound: Sound,
}

/// How long the sound of a request is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sound {
    /// At most.
    pub most: Duration,
    /// Probably: as its file says, else by its size.
    pub likely: Duration,
}

impl Pieces {
    /// Those of a request.
    pub fn of(envelope: &Envelope) -> Self {
        let text = |name: &'static str| match &envelope.form {
            Some(form) => form.text(name).ok().flatten().map(str::to_owned),
            None => envelope.member(name).and_then(|value| serde_json::from_slice(value).ok()),
        };
        let Work::Relay(endpoint) = envelope.work else { return Self::default() };
        match endpoint {
            Endpoint::ImageGenerations | Endpoint::ImageEdits => {
                // Left to the provider.
                let named = |name| text(name).filter(|text| !text.is_empty() && text != "auto");
                Self { pictures: pictures(envelope), size: named("size"), quality: named("quality"), ..Self::default() }
            }
            Endpoint::Speech => {
                let characters = text("input").map_or(0, |text| text.chars().count() as u64);
                Self { characters, ..Self::default() }
            }
            Endpoint::Transcriptions | Endpoint::Translations => {
                let files = envelope.form.iter().flat_map(|form| &form.parts).filter(|part| part.is_file);
                let mut sound = Sound::default();
                for part in files {
                    let of = Sound::of(&part.body);
                    (sound.most, sound.likely) = (sound.most + of.most, sound.likely + of.likely);
                }
                Self { sound, ..Self::default() }
            }
            Endpoint::Moderations | Endpoint::Rerank => Self::default(),
        }
    }
}

impl Sound {
    /// Whether its file says how long it is.
    pub fn is_exact(&self) -> bool {
        self.most == self.likely
    }

    /// That of a file.
    pub fn of(file: &[u8]) -> Self {
        let size = file.len() as u64;
        // As long as it is small, it may be something that takes less.
        let by_size = |bytes: u64| Duration::from_secs_f64((size as f64 / bytes as f64).max(1.0));
        match wave(file) {
            Some(exact) => Self { most: exact, likely: exact },
            None => Self { most: by_size(FEWEST_BYTES), likely: by_size(USUAL_BYTES) },
        }
    }
}

/// How long a RIFF WAVE file of plain samples is: by their rate, number and width, as whoever plays it does. `None` for anything else.
fn wave(file: &[u8]) -> Option<Duration> {
    const PCM: u16 = 1;
    const FLOAT: u16 = 3;
    const EXTENSIBLE: u16 = 0xfffe;
    let mut rest = file.strip_prefix(b"RIFF")?.get(4..)?.strip_prefix(b"WAVE")?;
    let mut bytes_a_second = None;
    loop {
        let (id, after) = rest.split_first_chunk::<4>()?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        if id == b"data" {
            // One that is written as it is recorded says more than there is, or nothing.
            let samples = if length == 0 { after.len() } else { length.min(after.len()) } as f64;
            return bytes_a_second.map(|bytes: f64| Duration::from_secs_f64(samples / bytes));
        }
        if id == b"fmt " {
            let head = after.first_chunk::<16>()?;
            let number = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
            let rate = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
            let (format, channels, bits) = (number(0), number(2), number(14));
            let is_plain = matches!(format, PCM | FLOAT | EXTENSIBLE);
            let is_sound =
                (1_000..=768_000).contains(&rate) && (1..=32).contains(&channels) && (8..=64).contains(&bits);
            if !is_plain || !is_sound {
                return None;
            }
            bytes_a_second = Some(f64::from(rate) * f64::from(channels) * f64::from(bits / 8));
        }
        // Chunks begin at even places.
        rest = after.get(length + length % 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Silence of so many bytes at 8 kHz, 16 bits, one channel: 16,000 bytes a second.
    fn silence(said: u32, bytes: usize) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0\x01\0\x01\0".to_vec();
        file.extend_from_slice(&8000u32.to_le_bytes());
        file.extend_from_slice(&1u32.to_le_bytes());
        file.extend_from_slice(b"\x02\0\x10\0data");
        file.extend_from_slice(&said.to_le_bytes());
        file.resize(file.len() + bytes, 0);
        file
    }

    #[test]
    fn a_wave_is_as_long_as_its_samples_and_others_are_reckoned_by_their_size() {
        let exact = Sound::of(&silence(24_000, 24_000));
        assert_eq!((exact.most, exact.likely), (Duration::from_millis(1500), Duration::from_millis(1500)));
        assert_eq!(Sound::of(&silence(u32::MAX, 16_000)).most, Duration::from_secs(1), "what is there counts");
        let other = Sound::of(&[7; 24_000]);
        assert_eq!((other.most.as_secs(), other.likely.as_secs()), (32, 3));
        assert_eq!(Sound::of(b"").likely, Duration::from_secs(1));
    }

    #[test]
    fn a_broken_wave_is_no_wave() {
        let whole = silence(8, 8);
        for cut in 0..whole.len() - 8 {
            let _ = Sound::of(&whole[..cut]);
        }
        let mut odd = silence(8, 8);
        let at = odd.windows(4).position(|it| it == b"fmt ").unwrap();
        odd[at + 8] = 0x55;
        assert_eq!(wave(&odd), None, "samples that are packed");
        odd[at + 8] = 1;
        odd[at + 12..at + 16].fill(0xff);
        assert_eq!(wave(&odd), None, "nobody samples that often");
        odd[at + 4..at + 8].fill(0xff);
        assert_eq!(wave(&odd), None);
    }
}
