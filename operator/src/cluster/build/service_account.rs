//! The service account of the brokers: without any grant, and without a token in their pods.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::cluster::validate::Wanted;

/// The account.
pub(super) fn build(wanted: &Wanted) -> ServiceAccount {
    ServiceAccount {
        metadata: wanted.key.child_metadata(wanted.key.child(), &wanted.uid),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
