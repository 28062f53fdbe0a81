//! One tools/call: its arguments, and what a tool may do with the client meanwhile.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolRequestParams, CustomNotification, ProgressNotificationParam, ServerNotification,
    },
    service::RequestContext,
};
use serde_json::{Value, json};

use crate::{
    answers::Outcome,
    questions::{self, Question, Reply},
    server::ReferenceServer,
    state::{Change, LOG_LEVELS, Session, Shared, log_rank},
};

pub(crate) struct Call {
    pub(crate) server: ReferenceServer,
    pub(crate) params: CallToolRequestParams,
    pub(crate) context: RequestContext<RoleServer>,
}

impl Call {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.server.shared
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.server.session
    }

    pub(crate) fn arg(&self, name: &str) -> Option<&Value> {
        self.params.arguments.as_ref()?.get(name)
    }

    pub(crate) fn text_arg(&self, name: &str) -> Option<&str> {
        self.arg(name)?.as_str()
    }

    pub(crate) fn number_arg(&self, name: &str) -> Option<u64> {
        self.arg(name)?.as_u64()
    }

    pub(crate) fn is_modern(&self) -> bool {
        questions::is_modern(&self.context)
    }

    pub(crate) async fn pause(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    pub(crate) async fn announce(&self, change: Change) {
        self.shared().announce(self.session(), change).await;
    }

    /// Sends progress if the client asked for it with a token.
    pub(crate) async fn progress(&self, progress: f64, total: f64, message: Option<&str>) {
        let Some(token) = self.context.meta.get_progress_token() else { return };
        let mut params = ProgressNotificationParam::new(token, progress).with_total(total);
        if let Some(message) = message {
            params = params.with_message(message);
        }
        // A client that has gone needs no progress.
        let _ = self.context.peer.notify_progress(params).await;
    }

    /// Logs to the client, if this request (modern) or session (legacy) wants the level.
    pub(crate) async fn log(&self, level: &str, data: Value) {
        let rank = log_rank(level).unwrap_or(0);
        let wanted = if self.is_modern() {
            let asked = self.context.meta.get("io.modelcontextprotocol/logLevel");
            asked.and_then(Value::as_str).and_then(log_rank).is_some_and(|least| rank >= least)
        } else {
            self.session().logs(rank)
        };
        if wanted {
            let params = json!({ "level": LOG_LEVELS[rank], "logger": "reference", "data": data });
            self.notify("notifications/message", params).await;
        }
    }

    pub(crate) async fn notify(&self, method: &str, params: Value) {
        let notification = CustomNotification::new(method, Some(params));
        let notification = ServerNotification::CustomNotification(notification);
        let _ = self.context.peer.send_notification(notification).await;
    }

    /// Puts questions to the client and finishes with the answers, now or in a later round.
    pub(crate) async fn ask(
        &self,
        questions: Vec<Question>,
        finish: impl FnOnce(BTreeMap<&'static str, Value>) -> Outcome,
    ) -> Outcome {
        self.ask_with_state(questions, None, finish).await
    }

    pub(crate) async fn ask_with_state(
        &self,
        questions: Vec<Question>,
        state: Option<String>,
        finish: impl FnOnce(BTreeMap<&'static str, Value>) -> Outcome,
    ) -> Outcome {
        let given = self.params.input_responses.as_ref();
        match questions::ask(&self.context, given, questions, state).await? {
            Reply::Answers(answers) => finish(answers),
            Reply::NotYet(unfinished) => Ok(unfinished.into()),
        }
    }

    /// The state of an earlier round, checked to be ours.
    pub(crate) fn state(&self) -> Result<Option<&str>, ErrorData> {
        self.params.request_state.as_deref().map(|sealed| self.shared().open(sealed)).transpose()
    }
}
