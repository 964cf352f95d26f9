use super::*;

#[test]
fn of_a_refusal_only_the_value_is_left_out() {
    let newest = "spec.image: Invalid value: \"a b\": must be an image";
    let oldest = "spec.image: Invalid value: \"string\": must be an image";
    assert_eq!(without_values(newest), "spec.image: Invalid value: must be an image");
    assert_eq!(without_values(newest), without_values(oldest));
    let told = "spec.replicas: Invalid value: 0: must be one or more";
    assert_eq!(without_values(told), told);
}
