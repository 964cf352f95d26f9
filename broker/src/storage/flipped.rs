//! Finds the one flipped bit that explains why a CRC32C does not hold.
//!
//! A checksum of this kind tells a single flipped bit from every other one in anything shorter than 256 MiB, so that bit can be
//! turned back. More than one never passes for none; it passes for a single other one with a chance of bits in the text to
//! 2^32, so callers know from elsewhere that the bytes were whole once, and check what they get.

/// Which bit is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flipped {
    /// One of the stored checksum; the bytes are right.
    Checksum,
    /// This bit of this byte.
    Bit {
        /// The byte's index.
        byte: usize,
        /// Counted from the lowest.
        bit: u8,
    },
}

/// The checksum's state after one more byte; linear, unlike the finished checksum.
fn step(state: u32, byte: u8) -> u32 {
    !crc32c::crc32c_append(!state, &[byte])
}

/// The flipped bit in `bytes`, whose checksum was computed and stored as these; `None` if no single one explains it.
pub(super) fn find(bytes: usize, computed: u32, stored: u32) -> Option<Flipped> {
    let difference = computed ^ stored;
    if difference.is_power_of_two() {
        return Some(Flipped::Checksum);
    }
    let zeros: Vec<u32> = (0..=u8::MAX).map(|byte| step(0, byte)).collect();
    // What each bit of the last byte would change; then of the one before it, and so on.
    let mut changes: [u32; 8] = std::array::from_fn(|bit| zeros[1 << bit]);
    for byte in (0..bytes).rev() {
        if let Some(bit) = changes.iter().position(|change| *change == difference) {
            return Some(Flipped::Bit { byte, bit: u8::try_from(bit).expect("below 8") });
        }
        for change in &mut changes {
            *change = (*change >> 8) ^ zeros[usize::from(change.to_le_bytes()[0])];
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_single_flipped_bit_is_found_and_two_never_pass_for_none() {
        let text: Vec<u8> = (0..200_u8).collect();
        let stored = crc32c::crc32c(&text);
        for byte in 0..text.len() {
            for bit in 0..8 {
                let mut flipped = text.clone();
                flipped[byte] ^= 1 << bit;
                let found = find(flipped.len(), crc32c::crc32c(&flipped), stored);
                assert_eq!(found, Some(Flipped::Bit { byte, bit }));
                flipped[(byte + 1) % 200] ^= 1;
                let found = find(flipped.len(), crc32c::crc32c(&flipped), stored);
                assert_eq!(found, None, "byte {byte}, bit {bit}, and another one");
            }
        }
        for bit in 0..32 {
            assert_eq!(find(200, stored, stored ^ (1 << bit)), Some(Flipped::Checksum));
        }
    }
}
