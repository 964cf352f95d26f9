//! Names, labels and annotations of everything that a Cluster has in Kubernetes, in one place.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The field manager of every object that the operator applies: for ever, or fields would have two owners.
pub const FIELD_MANAGER: &str = "fulmar-operator";

/// What the software is called in labels of brokers.
pub const BROKER: &str = "fulmar-broker";

/// What the operator is called in labels: of its own pods, and of what it manages.
pub const OPERATOR: &str = "fulmar-operator";

/// The label of the software's name.
pub const LABEL_NAME: &str = "app.kubernetes.io/name";

/// The label of the Cluster's name.
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";

/// The label of who manages an object.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The annotation with the hash of what was last applied: a field that is no longer wanted shows only by it.
pub const ANNOTATION_APPLIED: &str = "fulmar.dev/applied";

/// The annotation of the `StatefulSet` with the tenure that wrote it last; an older tenure keeps its hands off.
pub const ANNOTATION_CONTROLLER_EPOCH: &str = "fulmar.dev/controller-epoch";

/// The annotation of a broker's pod with the certificates that kubelet was asked to bring at once: as a broker calls them.
pub const ANNOTATION_CERTIFICATES: &str = "fulmar.dev/certificates";

/// The annotation of a claim whose broker was to be removed, and said that it holds nothing: the claim's own uid.
pub const ANNOTATION_EMPTY: &str = "fulmar.dev/empty-volume";

/// The finalizer of a Topic whose records are to be deleted with it.
pub const FINALIZER_RECORDS: &str = "fulmar.dev/records";

/// The container of a broker.
pub const BROKER_CONTAINER: &str = "broker";

/// The claim of a broker's volume, in the `StatefulSet`'s template.
pub const DATA_CLAIM: &str = "data";

/// The port for programs, gRPC.
pub const PORT_GRPC: i32 = 50051;
/// The port of HTTP.
pub const PORT_HTTP: i32 = 8080;
/// The port of the small TCP protocol.
pub const PORT_TCP: i32 = 9001;
/// The port between brokers and operator, mutual TLS.
pub const PORT_INTERNAL: i32 = 50052;
/// The port of gossip, UDP.
pub const PORT_GOSSIP: i32 = 7946;

/// A Cluster's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterKey {
    /// The namespace.
    pub namespace: String,
    /// The Cluster's name.
    pub name: String,
}

impl fmt::Display for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl ClusterKey {
    /// The `StatefulSet`, client Service, budget, policy and service account: all have the Cluster's name.
    pub fn child(&self) -> String {
        self.name.clone()
    }

    /// The headless Service.
    pub fn brokers_service(&self) -> String {
        format!("{}-brokers", self.name)
    }

    /// The Secret of the CA, mounted nowhere.
    pub fn ca_secret(&self) -> String {
        format!("{}-ca", self.name)
    }

    /// The Secret that the brokers mount.
    pub fn tls_secret(&self) -> String {
        format!("{}-tls", self.name)
    }

    /// The root page of the partition table.
    pub fn table_root(&self) -> String {
        format!("{}-table", self.name)
    }

    /// A page of the partition table.
    pub fn table_page(&self, number: u32) -> String {
        format!("{}-table-{number}", self.name)
    }

    /// A broker's pod.
    pub fn pod(&self, ordinal: u16) -> String {
        format!("{}-{ordinal}", self.name)
    }

    /// A broker's claim.
    pub fn claim(&self, ordinal: u16) -> String {
        format!("{DATA_CLAIM}-{}-{ordinal}", self.name)
    }

    /// The ordinal in the name of a pod of this Cluster.
    pub fn ordinal_of_pod(&self, pod: &str) -> Option<u16> {
        ordinal(pod.strip_prefix(&self.name)?)
    }

    /// The ordinal in the name of a claim of this Cluster.
    pub fn ordinal_of_claim(&self, claim: &str) -> Option<u16> {
        ordinal(claim.strip_prefix(DATA_CLAIM)?.strip_prefix('-')?.strip_prefix(&self.name)?)
    }

    /// Whether `name` is the root or a page of this Cluster's table.
    pub fn owns_table(&self, name: &str) -> bool {
        let root = self.table_root();
        name == root
            || name.strip_prefix(&root).and_then(|rest| rest.strip_prefix('-')).is_some_and(is_number)
    }

    /// The two labels that select the brokers. The `StatefulSet`'s selector is made of them and can never change.
    pub fn selector(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (LABEL_NAME.to_owned(), BROKER.to_owned()),
            (LABEL_INSTANCE.to_owned(), self.name.clone()),
        ])
    }

    /// The labels of the objects that the operator makes.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        labels.insert(LABEL_MANAGED_BY.to_owned(), OPERATOR.to_owned());
        labels
    }

    /// The metadata of a child of the Cluster with this uid.
    pub fn child_metadata(&self, name: String, uid: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels()),
            owner_references: Some(vec![self.controller(uid)]),
            ..ObjectMeta::default()
        }
    }

    /// The reference by which a child goes with its Cluster, and says whose it is.
    pub fn controller(&self, uid: &str) -> OwnerReference {
        OwnerReference { controller: Some(true), block_owner_deletion: Some(true), ..self.owner(uid) }
    }

    /// The reference by which an object only goes with its Cluster.
    pub fn owner(&self, uid: &str) -> OwnerReference {
        OwnerReference {
            api_version: fulmar_crds::API_VERSION.to_owned(),
            kind: "Cluster".to_owned(),
            name: self.name.clone(),
            uid: uid.to_owned(),
            controller: None,
            block_owner_deletion: None,
        }
    }
}

fn ordinal(rest: &str) -> Option<u16> {
    let digits = rest.strip_prefix('-')?;
    is_number(digits).then(|| digits.parse().ok()).flatten()
}

fn is_number(digits: &str) -> bool {
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
