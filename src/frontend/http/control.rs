//! `/whoami`, `/status` and `/reload`: for the words of the command line, over the Unix socket
//! only, where the kernel says who asks. No message of MCP comes this way.

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::json;

use super::{
    answer::{self, Answer},
    connection::{Caller, Connection},
};
use crate::{policy::Credential, sys::peer};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Whoami,
    Status,
    Reload,
}

impl Word {
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/whoami" => Some(Self::Whoami),
            "/status" => Some(Self::Status),
            "/reload" => Some(Self::Reload),
            _ => None,
        }
    }
}

/// Also those get an answer to `/whoami` who have no role: it tells them so.
pub(super) async fn answer(connection: &Connection, word: Word, method: &Method) -> Answer {
    let shared = &connection.shared;
    let Caller::Known(credential) = &connection.caller else {
        return answer::problem(StatusCode::FORBIDDEN, "nobody can tell who you are");
    };
    match (word, method) {
        (Word::Whoami, &Method::GET) => {
            let report = shared.gateway.whoami(credential);
            answer::json(StatusCode::OK, Bytes::from(report.to_string()))
        }
        (Word::Status, &Method::GET) => {
            let report = match connection.principal() {
                _ if is_ours(credential) => shared.gateway.report(None),
                Ok(principal) => shared.gateway.report(Some(&principal)),
                Err(why) => return answer::problem(StatusCode::FORBIDDEN, &why),
            };
            answer::json(StatusCode::OK, Bytes::from(report.to_string()))
        }
        (Word::Reload, &Method::POST) => {
            if !is_ours(credential) {
                let why = "only root and the gateway's own user may reload it";
                return answer::problem(StatusCode::FORBIDDEN, why);
            }
            match shared.reload().await {
                None => answer::problem(StatusCode::NOT_FOUND, "this gateway does not reload"),
                Some(Ok(report)) => answer::json(StatusCode::OK, Bytes::from(report.to_string())),
                Some(Err(problems)) => {
                    let report = json!({"ok": false, "problems": problems});
                    answer::json(StatusCode::UNPROCESSABLE_ENTITY, Bytes::from(report.to_string()))
                }
            }
        }
        (Word::Reload, _) => answer::method_not_allowed("POST"),
        (Word::Whoami | Word::Status, _) => answer::method_not_allowed("GET"),
    }
}

/// Root's, or the gateway's own.
fn is_ours(credential: &Credential) -> bool {
    match credential {
        Credential::Own => true,
        Credential::Peer { uid, .. } | Credential::Tcp { uid } => {
            *uid == 0 || *uid == peer::own_uid()
        }
    }
}
