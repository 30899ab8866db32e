//! Nodes, two where nothing else is asked for, whose agents work from an API server, with the rights
//! that the chart grants and no others; there is no kubelet.
//!
//! ```text
//!  node1  node2    api (kube-apiserver, etcd)
//!    |      |       |
//!  --+------+-------+--  192.0.2.0/24
//! ```

use anyhow::Result;

use crate::apiserver::ApiServer;
use crate::cluster::node_addresses;
use crate::lab::Lab;
use crate::node::Node;
use crate::rights;

/// Address of the API server.
pub const API: &str = "192.0.2.5";

/// Where the release is that the agents have their rights from.
pub const NAMESPACE: &str = "kube-system";
/// Service account of the agents.
pub const ACCOUNT: &str = "t-tortie-agent";

/// The nodes and their API server.
#[derive(Debug)]
pub struct Agents {
    /// `node1`, `node2` and so on, not started.
    pub nodes: Vec<Node>,
    /// The API server.
    pub api: ApiServer,
    /// Dropped last: it removes all of the above.
    pub lab: Lab,
}

impl Agents {
    /// Starts the API server, gives it our CRDs, these manifests and the Nodes, and makes the nodes.
    pub fn prepare(name: &str, manifests: &str) -> Result<Self> {
        Self::prepare_nodes(name, manifests, 2)
    }

    /// As [`Agents::prepare`], for so many nodes.
    pub fn prepare_nodes(name: &str, manifests: &str, count: usize) -> Result<Self> {
        let lab = Lab::new(name)?;
        let host = lab.namespace("api")?;
        lab.plug(&host, "api", &[&format!("{API}/24")])?;
        let api = ApiServer::inside(&lab.folder().join("api"), &host, API.parse()?)?;
        api.apply_crds()?;
        api.apply(manifests)?;
        api.apply(&rights::of_chart(NAMESPACE, &["templates/rbac.yaml"])?)?;
        let kubeconfig = api.kubeconfig_of_account(NAMESPACE, ACCOUNT)?;
        let mut nodes = Vec::new();
        for number in 1..=count {
            let [v4, _] = node_addresses(number);
            let name = format!("node{number}");
            api.apply(&format!(
                "{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}}}"
            ))?;
            let mut node = Node::new(&lab, &name, &[&format!("{v4}/24")], lab.folder())?;
            node.use_kubernetes(kubeconfig.clone());
            nodes.push(node);
        }
        Ok(Self { nodes, api, lab })
    }
}
