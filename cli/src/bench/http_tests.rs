use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::HttpPublisher;
use crate::bench::system::Single;

/// Publishes once to a server that answers so.
async fn published(answer: &'static str) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 200];
        let mut length = 0;
        while !request[..length].ends_with(b"\r\n\r\nhello") {
            length += stream.read(&mut request[length..]).await.unwrap();
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request[..length].to_vec()).unwrap()
    });
    let mut publisher = HttpPublisher::connect(&address, "t").await.unwrap();
    let outcome = publisher.publish(Bytes::from_static(b"hello")).await;
    let request = server.await.unwrap();
    assert!(request.starts_with("POST /publish?topic=t HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\ncontent-length: 5\r\n"), "{request}");
    outcome.map_err(|failed| failed.to_string())
}

#[tokio::test]
async fn only_an_answer_of_200_is_an_acknowledgement() {
    assert_eq!(published("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await, Ok(()));
    let refused = published("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy").await;
    assert_eq!(refused, Err("HTTP 503 Service Unavailable: busy".to_owned()));
}

#[tokio::test]
async fn what_is_no_answer_is_said() {
    let endless = format!("HTTP/1.1 200 OK\r\ncontent-length: 65537\r\n\r\n{}", "x".repeat(65537));
    for answer in [
        "",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\n",
        "200",
        endless.leak(),
    ] {
        assert!(published(answer).await.unwrap_err().contains("this is no answer"), "{answer:?}");
    }
}
