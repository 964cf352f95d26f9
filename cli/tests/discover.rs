//! `fulmar discover` where others answer at the addresses of brokers. Where nobody does: `dev_programs.rs`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::pin::Pin;
use std::process::Command;
use std::sync::{Arc, Mutex};

use fulmar_client::v1;
use fulmar_client::v1::admin_server::{Admin, AdminServer};
use fulmar_client::v1::log_server::{Log, LogServer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

const OURS: &str = "0198a5c2-7b1e-7c3d-9f00-000000000001";
const OTHERS: &str = "0198a5c2-7b1e-7c3d-9f00-000000000002";

/// Says who it is, and which brokers there are.
#[derive(Clone)]
struct Broker {
    cluster: &'static str,
    ordinal: u32,
    addresses: Arc<Mutex<Vec<String>>>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Log for Broker {
    type ProduceStream = Answers<v1::ProduceResponse>;
    type FetchStream = Answers<v1::FetchResponse>;

    async fn produce(
        &self,
        _: Request<Streaming<v1::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        Err(Status::unimplemented("it only says who it is"))
    }

    async fn fetch(
        &self,
        _: Request<Streaming<v1::FetchRequest>>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        Err(Status::unimplemented("it only says who it is"))
    }

    async fn metadata(
        &self,
        _: Request<v1::MetadataRequest>,
    ) -> Result<Response<v1::MetadataResponse>, Status> {
        let cluster_id = self.cluster.to_owned();
        Ok(Response::new(v1::MetadataResponse { cluster_id, ..v1::MetadataResponse::default() }))
    }

    async fn list_offsets(
        &self,
        _: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        Err(Status::unimplemented("it only says who it is"))
    }
}

#[tonic::async_trait]
impl Admin for Broker {
    async fn describe_cluster(
        &self,
        _: Request<v1::DescribeClusterRequest>,
    ) -> Result<Response<v1::DescribeClusterResponse>, Status> {
        let addresses = self.addresses.lock().unwrap().clone();
        let broker = |(ordinal, address)| v1::BrokerStatus { ordinal, address, ..Default::default() };
        Ok(Response::new(v1::DescribeClusterResponse {
            cluster_id: self.cluster.to_owned(),
            brokers: (0..).zip(addresses).map(broker).collect(),
            answered_by: self.ordinal,
            ..Default::default()
        }))
    }

    async fn describe_topic(
        &self,
        _: Request<v1::DescribeTopicRequest>,
    ) -> Result<Response<v1::DescribeTopicResponse>, Status> {
        Err(Status::unimplemented("it only says who it is"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_broker_at_the_address_of_one_is_not_taken_for_it_whatever_its_cluster() {
    let addresses = Arc::new(Mutex::new(Vec::new()));
    // Each at the address of the broker with its place for a number.
    for (cluster, ordinal) in [(OURS, 0), (OTHERS, 1), (OURS, 7), ("", 3)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.lock().unwrap().push(listener.local_addr().unwrap().to_string());
        let broker = Broker { cluster, ordinal, addresses: Arc::clone(&addresses) };
        let server = tonic::transport::Server::builder()
            .add_service(LogServer::new(broker.clone()))
            .add_service(AdminServer::new(broker));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    }
    let first = addresses.lock().unwrap()[0].clone();
    let discover = move || {
        let command = Command::new(env!("CARGO_BIN_EXE_fulmar"))
            .args(["discover", "-o", "json", "--server", &first])
            .output()
            .unwrap();
        assert!(command.status.success(), "{}", String::from_utf8_lossy(&command.stderr));
        serde_json::from_slice::<Value>(&command.stdout).unwrap()
    };
    let told = tokio::task::spawn_blocking(discover).await.unwrap();
    let of_each = told["brokers"].as_array().unwrap().iter();
    let said: Vec<_> = of_each.map(|broker| (&broker["reached"], broker["why"].as_str())).collect();
    let others = format!("a broker of Cluster {OTHERS} answers there");
    let (yes, no) = (&Value::Bool(true), &Value::Bool(false));
    assert_eq!(
        said,
        [
            (yes, None),
            (no, Some(others.as_str())),
            (no, Some("broker 7 answers there")),
            (no, Some("a broker answers there that belongs to no Cluster yet")),
        ]
    );
}
