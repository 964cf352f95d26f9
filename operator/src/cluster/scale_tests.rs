use super::*;

fn known(holding: u16, named: u16) -> Floor {
    Floor::Known { holding, named }
}

#[test]
fn a_broker_that_holds_replicas_is_not_taken_away() {
    assert_eq!(scale(3, Some(5), known(5, 5)), Scale::Held(5));
    assert_eq!(scale(3, Some(5), known(4, 4)), Scale::Held(4), "the last one, which is empty, goes already");
    assert_eq!(scale(3, Some(5), known(3, 3)), Scale::AsWanted(3));
}

#[test]
fn nothing_is_taken_away_before_it_is_known_what_it_holds() {
    assert_eq!(scale(1, Some(3), Floor::Unknown), Scale::Asking(3));
    assert_eq!(scale(3, None, Floor::Unknown), Scale::AsWanted(3));
}

#[test]
fn brokers_are_added_at_once() {
    assert_eq!(scale(5, Some(3), Floor::Unknown), Scale::AsWanted(5));
    assert_eq!(scale(5, Some(3), known(9, 5)), Scale::AsWanted(5));
}

#[test]
fn a_set_that_was_deleted_comes_back_with_all_whose_pods_it_left() {
    assert_eq!(running(None, [0, 4, 2].into_iter()), Some(5));
    assert_eq!(running(Some(3), [0, 4].into_iter()), Some(3), "its own controller removes them just now");
    assert_eq!(running(None, [1, 60_000].into_iter()), Some(2), "a stranger's name");
    assert_eq!(running(None, std::iter::empty()), None);
    assert_eq!(scale(3, running(None, [4].into_iter()), Floor::Unknown), Scale::Asking(5));
}

#[test]
fn a_broker_that_the_table_names_is_brought_back_whoever_took_it_away() {
    assert_eq!(scale(3, Some(3), known(5, 5)), Scale::Held(5), "kubectl scale statefulset");
    assert_eq!(scale(3, None, known(5, 4)), Scale::Held(4), "the set was deleted, and its pods with it");
    assert_eq!(
        scale(3, Some(3), known(5, 3)),
        Scale::AsWanted(3),
        "a pod that ends just now may hold something"
    );
}
