use super::*;

#[test]
fn the_port_is_read_from_what_kubectl_says() {
    assert_eq!(told("Forwarding from 127.0.0.1:40001 -> 8080"), Some((8080, 40001)));
    assert_eq!(told("Forwarding from [::1]:40001 -> 8080"), Some((8080, 40001)));
    assert_eq!(told("Handling connection for 40001"), None);
}
