//! What of a client's body nobody may keep: the places are in the body, in order and apart, and without them there is nothing left to find.

#![no_main]

use libfuzzer_sys::fuzz_target;
use orbyt::dialect::withheld::look;

fuzz_target!(|data: &[u8]| {
    for boundary in [None, Some("edge")] {
        let found = look(data, boundary);
        assert!(found.secrets.iter().all(|place| place.end <= data.len()));
        assert!(found.secrets.windows(2).all(|pair| pair[0].end <= pair[1].start));
        if boundary.is_none() && !found.unreadable {
            let mut clean = data.to_vec();
            for place in found.secrets.into_iter().rev() {
                clean.splice(place, *b"0");
            }
            let again = look(&clean, None);
            assert!(!again.unreadable && again.secrets.iter().all(|place| &clean[place.clone()] == b"0"));
        }
    }
});
