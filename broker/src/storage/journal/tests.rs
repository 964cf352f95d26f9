//! The chain of groups: where it goes, where it ends, and what may be overwritten.

use std::path::Path;

use super::super::error::OpenError;
use super::super::tests::faulty::{Crash, FaultyFiles};
use super::{ALIGN, Position, Reader, Shape, Slots, Writer};

const SHAPE: Shape = Shape { slots: 3, slot_bytes: 64 * 1024 };
const DIR: &str = "/data";
const ID: [u8; 16] = [9; 16];

fn prepared() -> FaultyFiles {
    let files = FaultyFiles::default();
    Slots::prepare(&files, Path::new(DIR), ID, SHAPE).unwrap();
    files
}

fn slots(files: &FaultyFiles) -> Slots {
    Slots::open(files, Path::new(DIR), ID, true).unwrap()
}

fn add(writer: &mut Writer, body: &[u8], sync: bool) -> Position {
    writer.body().extend_from_slice(body);
    writer.append().unwrap();
    if sync {
        writer.sync().unwrap();
    }
    writer.position()
}

fn read(files: &FaultyFiles, from: Position) -> Result<Vec<Vec<u8>>, OpenError> {
    let slots = slots(files);
    let mut reader = Reader::new(&slots, from);
    let mut bodies = Vec::new();
    while let Some(group) = reader.next()? {
        bodies.push(group.body.to_vec());
    }
    Ok(bodies)
}

#[test]
fn groups_come_back_in_order_from_any_of_their_ends() {
    let files = prepared();
    let mut writer = Writer::new(slots(&files), Position::START);
    let bodies: Vec<Vec<u8>> = (0..30u8).map(|index| vec![index; usize::from(index) * 100]).collect();
    let ends: Vec<Position> = bodies.iter().map(|body| add(&mut writer, body, true)).collect();
    assert_eq!(read(&files, Position::START).unwrap(), bodies);
    for (index, end) in ends.iter().enumerate() {
        assert_eq!(read(&files, *end).unwrap(), bodies[index + 1..]);
    }
}

#[test]
fn a_slot_is_filled_to_its_last_byte_and_the_next_one_follows() {
    let files = prepared();
    let mut writer = Writer::new(slots(&files), Position::START);
    // 15 pages stand behind the head of a slot.
    let whole = vec![1; 15 * 4096 - 64];
    assert_eq!(whole.len(), writer.body_bytes_max());
    let end = add(&mut writer, &whole, true);
    assert_eq!(end.at, SHAPE.slot_bytes);
    let end = add(&mut writer, b"next", true);
    assert_eq!(end.at, SHAPE.slot_bytes + 2 * ALIGN);
    assert_eq!(read(&files, Position::START).unwrap(), [whole, b"next".to_vec()]);
}

#[test]
fn a_group_that_does_not_fit_the_rest_begins_the_next_slot() {
    let files = prepared();
    let mut writer = Writer::new(slots(&files), Position::START);
    let bodies = [vec![1; 40_000], vec![2; 40_000], vec![3; 10]];
    for body in &bodies {
        add(&mut writer, body, true);
    }
    assert_eq!(read(&files, Position::START).unwrap(), bodies);
}

#[test]
fn a_slot_is_overwritten_only_when_all_of_it_is_released() {
    let files = prepared();
    let mut writer = Writer::new(slots(&files), Position::START);
    let mut ends = vec![Position::START];
    for _ in 0..6 {
        assert!({
            writer.body().extend_from_slice(&vec![1; 28_000]);
            writer.fits(&Position::START)
        });
        writer.append().unwrap();
        writer.sync().unwrap();
        ends.push(writer.position());
    }
    // All three slots are full; the first holds the first two groups.
    writer.body().extend_from_slice(&vec![1; 28_000]);
    assert!(!writer.fits(&ends[1]));
    assert!(!writer.fits(&Position { at: SHAPE.slot_bytes - 1, ..ends[1] }));
    assert!(writer.fits(&ends[3]));
    writer.append().unwrap();
    writer.sync().unwrap();
    assert_eq!(read(&files, ends[2]).unwrap().len(), 5);
    let gone = read(&files, Position::START).unwrap_err().to_string();
    assert!(gone.starts_with("/data/journal/slot-000: byte 4096: group 1"), "{gone}");
}

#[test]
fn unsynced_groups_may_go_and_what_follows_them_is_no_rot() {
    for how in [Crash::Drop, Crash::Tear(1), Crash::Tear(2), Crash::Tear(3)] {
        let files = prepared();
        let mut writer = Writer::new(slots(&files), Position::START);
        add(&mut writer, b"synced", true);
        add(&mut writer, &[5; 9000], false);
        files.crash(how);
        let found = read(&files, Position::START).unwrap();
        assert!(!found.is_empty() && found.len() <= 2, "{how:?}");
        assert_eq!(found[0], b"synced");
    }
}

#[test]
fn leaving_a_slot_syncs_what_is_unsynced_in_it() {
    let files = prepared();
    let mut writer = Writer::new(slots(&files), Position::START);
    add(&mut writer, &vec![1; 50_000], true);
    add(&mut writer, b"unsynced", false);
    add(&mut writer, &vec![2; 50_000], true);
    files.crash(Crash::Drop);
    assert_eq!(read(&files, Position::START).unwrap().len(), 3);
}

#[test]
fn old_groups_of_a_reused_slot_do_not_chain() {
    let files = prepared();
    let mut writer = Writer::new(slots(&files), Position::START);
    let all = Position { at: u64::MAX, ..Position::START };
    let mut ends = Vec::new();
    for lap in 0..40u8 {
        writer.body().extend_from_slice(&vec![lap; 20_000]);
        assert!(writer.fits(&all));
        writer.append().unwrap();
        writer.sync().unwrap();
        ends.push(writer.position());
    }
    for back in 0..3 {
        assert_eq!(read(&files, ends[39 - back]).unwrap().len(), back);
    }
}

mod turning_back {
    use proptest::prelude::*;

    use super::super::group::{HEADER_BYTES, seal, turn_back};
    use super::{ID, Position};

    fn group(body: &[u8]) -> (Vec<u8>, Position) {
        let to = Position { at: 8192, sequence: 7, chain: 99, synced_through: 5 };
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend_from_slice(body);
        seal(&mut bytes, &ID, &to);
        (bytes, to)
    }

    proptest! {
        #[test]
        fn one_flipped_bit_anywhere_is_turned_back(
            body in proptest::collection::vec(any::<u8>(), 0..500),
            place in any::<proptest::sample::Index>(),
            bit in 0..8u8,
        ) {
            let (mut bytes, to) = group(&body);
            let whole = bytes.clone();
            bytes[place.index(HEADER_BYTES + body.len())] ^= 1 << bit;
            let (head, found) = turn_back(&bytes, &ID, &to).expect("one bit is told from all others");
            prop_assert_eq!(&found[HEADER_BYTES..], &body[..]);
            prop_assert_eq!((head.sequence, head.synced_through, head.at), (7, 5, 8192));
            prop_assert_eq!(&head.checksum.to_le_bytes()[..], &whole[4..8]);
        }

        #[test]
        fn two_flipped_bits_near_each_other_are_not(
            body in proptest::collection::vec(any::<u8>(), 10..500),
            place in any::<proptest::sample::Index>(),
            bits in (0..8u8, 0..8u8),
        ) {
            let (mut bytes, to) = group(&body);
            let at = HEADER_BYTES + place.index(body.len() - 1);
            bytes[at] ^= 1 << bits.0;
            bytes[at + 1] ^= 1 << bits.1;
            prop_assert!(turn_back(&bytes, &ID, &to).is_none());
        }

        #[test]
        fn no_bytes_are_a_panic_or_a_group(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let (_, to) = group(&[]);
            prop_assert!(turn_back(&bytes, &ID, &to).is_none());
        }
    }
}
