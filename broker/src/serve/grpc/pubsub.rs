//! `PubSub`.

use fulmar_proto::v1::pub_sub_server::PubSub;
use fulmar_proto::v1::{PublishRequest, PublishResponse, SubscribeRequest, SubscribeResponse};
use tonic::{Request, Response, Status};

use super::super::Door;
use super::super::carried::Carried;
use super::super::outflow::Answered;
use super::{deadline, is_forwarded, outflow_of, received};

#[tonic::async_trait]
impl PubSub for Door {
    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let (deadline, is_forwarded) = (deadline(request.metadata()), is_forwarded(&request));
        let (received, carried) = (received(&request), Carried::by(request.metadata().as_ref()));
        let message = carried.onto(request.into_inner());
        let published = Door::publish(self, (message, received), is_forwarded, deadline).await;
        Ok(Response::new(published?))
    }

    type SubscribeStream = Answered<SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (deadline, connection) = (deadline(request.metadata()), outflow_of(&request));
        Ok(Door::subscribe(self, request.into_inner(), connection, deadline).await?.into_response())
    }
}
