use super::*;

const GIB: u64 = 1024 * MIB;

fn space(total: u64, free: u64, taken: u64) -> Space {
    Space { total, free, taken }
}

fn room(total: u64, free: u64, taken: u64, kept: u64) -> Room {
    Room::new(512 * MIB, space(total, free, taken), kept)
}

#[test]
fn a_volume_of_the_smallest_size_has_room_for_records() {
    // Of 512 MiB a file system takes some, and the journal 192.
    let room = room(480 * MIB, 260 * MIB, 8 * MIB, 0);
    assert!(!room.fullness().is_full);
}

#[test]
fn there_is_room_again_only_a_quarter_above_the_reserve() {
    let taken = 5 * GIB;
    let mut room = room(10 * GIB, 600 * MIB, taken, taken);
    assert!(!room.fullness().is_full);
    assert!(room.look(space(10 * GIB, 511 * MIB, taken)).is_full);
    assert!(room.look(space(10 * GIB, 600 * MIB, taken)).is_full);
    assert!(!room.look(space(10 * GIB, 640 * MIB, taken)).is_full);
}

#[test]
fn followed_partitions_go_on_into_the_reserve_and_stop_before_its_end() {
    let taken = 5 * GIB;
    let mut room = room(10 * GIB, 600 * MIB, taken, taken);
    let mut at = |free: u64| {
        let found = room.look(space(10 * GIB, free * MIB, taken));
        (found.is_full, found.is_exhausted)
    };
    assert_eq!(at(500), (true, false));
    assert_eq!(at(127), (true, true));
    assert_eq!(at(200), (true, true));
    assert_eq!(at(256), (true, false));
}

#[test]
fn what_retention_let_go_of_is_room_although_the_file_stays_as_large() {
    let taken = 9 * GIB;
    let full = space(10 * GIB, 400 * MIB, taken);
    let mut room = Room::new(512 * MIB, full, taken);
    assert!(room.look(full).is_full);
    room.holds(taken - 100 * MIB);
    assert!(room.look(full).is_full);
    room.holds(taken - 400 * MIB);
    let found = room.look(full);
    assert!(!found.is_full);
    assert_eq!(found.available_bytes, 800 * MIB);
}

#[test]
fn what_is_written_into_it_again_uses_it_up() {
    let full = space(10 * GIB, 400 * MIB, 9 * GIB);
    let mut room = Room::new(512 * MIB, full, 9 * GIB);
    room.holds(8 * GIB);
    assert!(!room.look(full).is_full);
    room.holds(9 * GIB);
    assert!(room.look(full).is_full);
}

#[test]
fn a_file_that_grows_has_less_inside_than_was_thought() {
    // After a start nothing is known but what its records take: pages may be half empty.
    let mut room = room(10 * GIB, 400 * MIB, 9 * GIB, 5 * GIB);
    assert!(!room.fullness().is_full);
    let (mut free, mut taken, mut held) = (400 * MIB, 9 * GIB, 5 * GIB);
    while !room.look(space(10 * GIB, free, taken)).is_full {
        assert!(free > 200 * MIB, "it grew on down to {free}");
        (free, taken, held) = (free - 16 * MIB, taken + 16 * MIB, held + 16 * MIB);
        room.holds(held);
    }
    // From here on only what is swept counts.
    room.holds(held - 640 * MIB);
    assert!(!room.look(space(10 * GIB, free, taken)).is_full);
}

#[test]
fn growth_in_small_steps_is_growth() {
    let (mut free, mut taken, mut held) = (300 * MIB, 9 * GIB, 5 * GIB);
    let mut room = room(10 * GIB, free, taken, held);
    while !room.look(space(10 * GIB, free, taken)).is_full {
        assert!(free > 200 * MIB, "it grew on down to {free}");
        (free, taken, held) = (free - MIB / 4, taken + MIB / 4, held + MIB / 4);
        room.holds(held);
    }
}

#[test]
fn a_file_that_grows_a_little_while_much_is_written_into_it_has_room_inside() {
    let (mut free, mut taken) = (250 * MIB, 9 * GIB);
    let mut room = room(10 * GIB, free, taken, 9 * GIB);
    room.holds(6 * GIB);
    for _ in 0..10 {
        // A little of what goes through it: redb's own pages.
        room.holds(6 * GIB + 100 * MIB);
        room.holds(6 * GIB);
        (free, taken) = (free - 2 * MIB, taken + 2 * MIB);
        assert!(!room.look(space(10 * GIB, free, taken)).is_full, "at {free}");
    }
    // All of it: there is none.
    room.holds(6 * GIB + 16 * MIB);
    (free, taken) = (free - 16 * MIB, taken + 16 * MIB);
    assert!(room.look(space(10 * GIB, free, taken)).is_full);
}

#[test]
fn what_goes_through_it_for_years_takes_nothing_away() {
    let full = space(10 * GIB, 400 * MIB, 9 * GIB);
    let mut room = Room::new(512 * MIB, full, 9 * GIB);
    room.holds(7 * GIB);
    let before = room.look(full);
    for _ in 0..100_000 {
        room.holds(7 * GIB + 8 * MIB);
        room.look(full);
        room.holds(7 * GIB);
    }
    assert_eq!(room.look(full), before);
}

#[test]
fn what_an_earlier_process_left_to_be_swept_is_room_once_it_is() {
    let full = space(10 * GIB, 100 * MIB, 9 * GIB);
    let mut room = Room::new(512 * MIB, full, 5 * GIB);
    assert!(room.look(full).is_full);
    room.found(3 * GIB);
    assert!(!room.look(full).is_full);
    // Never more than the file has.
    room.found(9 * GIB);
    assert_eq!(room.look(full).available_bytes, 4 * GIB + 100 * MIB);
}

#[test]
fn a_file_without_records_is_free_and_never_more_than_it_takes() {
    let full = space(10 * GIB, 400 * MIB, 9 * GIB);
    let mut room = Room::new(512 * MIB, full, 9 * GIB);
    room.holds(0);
    assert_eq!(room.look(full).available_bytes, 9 * GIB + 400 * MIB);
}

#[test]
fn a_start_with_next_to_nothing_free_believes_only_in_pages_that_are_half_empty_at_worst() {
    assert!(room(10 * GIB, 100 * MIB, 9 * GIB, 5 * GIB).fullness().is_full);
    assert!(!room(10 * GIB, 100 * MIB, 9 * GIB, 3 * GIB).fullness().is_full);
    // Nothing can be committed without any page.
    assert!(room(10 * GIB, MIB, 9 * GIB, 0).fullness().is_full);
}

#[test]
fn a_volume_that_has_grown_has_room_at_once() {
    let taken = 9 * GIB;
    let mut room = room(10 * GIB, 100 * MIB, taken, taken);
    assert!(room.fullness().is_full);
    let found = room.look(space(20 * GIB, 10 * GIB, taken));
    assert!(!found.is_full);
    assert_eq!((found.total_bytes, found.available_bytes), (20 * GIB, 10 * GIB));
}
