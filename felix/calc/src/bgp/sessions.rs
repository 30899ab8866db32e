//! The sessions of this node while they are collected.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::policies::Policies;
use crate::facts::SecretKey;
use crate::{Password, PeerSpec, Problem, Refused};

/// Longest key of a TCP MD5 signature (Linux: `TCP_MD5SIG_MAXKEYLEN`).
const LONGEST_PASSWORD: usize = 80;

/// One session per address and port; the first one to claim them stays, also when it is refused,
/// because the next one may be without the password of the first.
pub(super) struct Sessions<'a> {
    pub(super) policies: Policies<'a>,
    pub(super) problems: Vec<Problem>,
    pub(super) specs: BTreeMap<String, PeerSpec>,
    pub(super) refused: BTreeMap<String, Refused>,
    taken: BTreeSet<(IpAddr, u16)>,
    secrets: &'a BTreeMap<String, BTreeMap<String, Password>>,
    namespace: &'a str,
}

impl<'a> Sessions<'a> {
    pub(super) fn new(
        policies: Policies<'a>,
        secrets: &'a BTreeMap<String, BTreeMap<String, Password>>,
        namespace: &'a str,
    ) -> Sessions<'a> {
        Sessions {
            policies,
            problems: Vec::new(),
            specs: BTreeMap::new(),
            refused: BTreeMap::new(),
            taken: BTreeSet::new(),
            secrets,
            namespace,
        }
    }

    pub(super) fn is_taken(&self, address: IpAddr, port: u16) -> bool {
        self.taken.contains(&(address, port))
    }

    /// Adds a session, or says why there is none.
    pub(super) fn add(
        &mut self,
        name: String,
        spec: PeerSpec,
        password: Option<(&SecretKey, &str)>,
    ) {
        if !self.taken.insert((spec.address, spec.port)) {
            return;
        }
        let found = password.map(|(at, field)| self.password(&spec, at, field));
        match found.transpose() {
            Ok(password) => {
                let spec = PeerSpec { password, ..spec };
                self.specs.entry(name).or_insert(spec);
            }
            Err(problem) => self.refuse(name, &spec, problem),
        }
    }

    fn refuse(&mut self, name: String, spec: &PeerSpec, problem: Problem) {
        let refused = Refused {
            object: spec.object.clone(),
            kind: spec.kind,
            address: spec.address,
            port: spec.port,
            remote_as: Some(spec.remote_as),
            reason: problem.problem.clone(),
        };
        self.refused.entry(name).or_insert(refused);
        self.problems.push(problem);
    }

    /// The password, or why the peer has to wait: a session without it is worse than none.
    fn password(&self, spec: &PeerSpec, at: &SecretKey, field: &str) -> Result<Password, Problem> {
        let wait = |field: String, what: String, remedy: &str| Problem {
            object: match spec.kind {
                crate::PeerKind::NodeMesh => "BGPConfiguration/default".to_owned(),
                crate::PeerKind::NodePeer | crate::PeerKind::GlobalPeer => spec.object.clone(),
            },
            field,
            problem: format!("{what}, so the session waits for it"),
            remedy: remedy.to_owned(),
        };
        let field = format!("{field}.secretKeyRef");
        let place = format!("{}/{}", self.namespace, at.name);
        let Some(secret) = self.secrets.get(&at.name) else {
            let remedy =
                "create it; the agent looks in the namespace that its setting namespace names";
            return Err(wait(
                field,
                format!("there is no usable Secret {place}"),
                remedy,
            ));
        };
        let Some(password) = secret.get(&at.key) else {
            let what = format!("Secret {place} has no text under the key {:?}", at.key);
            return Err(wait(field, what, "add it, or name another key"));
        };
        if password.reveal().len() > LONGEST_PASSWORD {
            let what = format!(
                "key {:?} of Secret {place} is longer than 80 octets",
                at.key
            );
            return Err(wait(field, what, "use a shorter password on both sides"));
        }
        Ok(password.clone())
    }
}
