//! GC: nothing stays that the runtime does not know (CNI 1.1.0, "GC").

use felix_api::cni::{Gc, Op, Reply, parse_alias};

use crate::agent::{ask, unexpected};
use crate::conf::Conf;
use crate::error::Error;
use crate::host;

/// Has the agent forget all but the valid attachments of this network, then removes our host
/// interfaces that neither the runtime nor the agent knows.
///
/// # Errors
/// The first one; the rest is collected all the same.
pub(crate) fn gc(conf: &Conf) -> Result<(), Error> {
    let valid = conf.valid_attachments()?;
    let mut socket = host::socket()?;
    // Listed first: what another network adds from here on is not in this list.
    let links = host::links(&mut socket)?;
    let op = Op::Gc(Gc {
        network: conf.keys.name.clone(),
        valid: valid.clone(),
    });
    let remaining = match ask(&conf.keys.socket, op) {
        Ok(Reply::Collected(collected)) => collected.remaining,
        Ok(other) => return Err(unexpected(&other).into_error(&conf.keys.socket)),
        Err(failure) => return Err(failure.into_error(&conf.keys.socket)),
    };
    let mut first = Ok(());
    for link in &links {
        let Some(attachment) = link.alias.as_deref().and_then(parse_alias) else {
            continue;
        };
        if valid.contains(&attachment) || remaining.contains(&attachment) {
            continue;
        }
        first = first.and(host::delete(&mut socket, link));
    }
    first
}
