//! Reading UPDATE messages.

use super::Update;
use crate::{Error, Params};

impl Update {
    pub(crate) fn decode(_message: &[u8], _params: &Params) -> Result<Update, Error> {
        let problem = "reading is not implemented yet";
        Err(Error::MalformedAttributeList { problem })
    }
}
