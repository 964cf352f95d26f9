use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[cfg(target_os = "linux")]
#[tokio::test]
async fn one_that_acknowledges_nothing_is_given_up_and_not_before_one_that_does_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    let stall_max = 60 * SECOND;
    asked_after(&socket, (10 * SECOND, 10 * SECOND), Some(stall_max)).unwrap();
    let of = SockRef::from(&socket);
    assert_eq!((of.keepalive().unwrap(), of.tcp_keepalive_time().unwrap()), (true, 10 * SECOND));
    assert_eq!(of.tcp_keepalive_interval().unwrap(), SECOND);
    assert_eq!(of.tcp_user_timeout().unwrap(), Some(stall_max + 10 * SECOND));
    // Less than a second between two questions is none at all for the system.
    asked_after(&socket, (SECOND, 2 * SECOND), None).unwrap();
    assert_eq!((of.tcp_keepalive_interval().unwrap(), of.tcp_user_timeout().unwrap()), (SECOND, None));
}
