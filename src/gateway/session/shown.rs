//! What a session sees, and what it was shown.

use std::{collections::HashSet, sync::Arc};

use serde_json::json;

use super::Session;
use crate::{
    backend::Speak,
    config::Share,
    gateway::{Layer, View, catalog::Kind},
};

impl Session {
    /// Notes what a list looked like when it was sent.
    pub(in crate::gateway) fn note_shown(&self, kind: Kind, mark: u64) {
        let mut state = self.state();
        state.shown.retain(|(known, _)| *known != kind);
        state.shown.push((kind, mark));
    }

    /// True if this list was sent and looks different now; notes the new look.
    pub(in crate::gateway) fn looks_new(&self, kind: Kind, mark: u64) -> bool {
        let mut state = self.state();
        match state.shown.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, shown)) => std::mem::replace(shown, mark) != mark,
            None => false,
        }
    }

    /// Says which of these lists look different from what was shown, if any was.
    pub(in crate::gateway) fn tell_what_changed(&self, kinds: &[Kind]) {
        let view = self.view();
        let mut told = HashSet::new();
        for kind in kinds {
            if self.looks_new(*kind, view.mark(*kind)) && told.insert(kind.changed()) {
                let notice = json!({"jsonrpc": "2.0", "method": kind.changed()});
                self.tell(notice.to_string().into());
            }
        }
    }

    /// What the session sees, kept until the catalog changes.
    pub(in crate::gateway) fn view(&self) -> Arc<View> {
        let generation = self.gateway.catalog.generation();
        if let Some((known, view)) = &self.state().view
            && *known == generation
        {
            return Arc::clone(view);
        }
        let (generation, view) = self.gateway.view(self);
        self.state().view = Some((generation, Arc::clone(&view)));
        view
    }

    /// Sessions with the same key see the same.
    pub(in crate::gateway) fn view_key(&self) -> String {
        let own = match &self.layer {
            Layer::Aggregate => {
                self.gateway.servers().iter().any(|server| server.share == Share::Session)
            }
            Layer::Server(name) => {
                self.gateway.server(name).is_some_and(|server| server.share == Share::Session)
            }
        };
        let (layer, name) = match &self.layer {
            Layer::Aggregate => ("all", ""),
            Layer::Server(name) => ("server", name.as_str()),
        };
        let speak = match self.speak() {
            Speak::Best => "best",
            Speak::Legacy => "legacy",
        };
        let folder = self.holder.folder.as_ref().map(|folder| format!("{folder:?}"));
        let own = if own { &*self.holder.session } else { "" };
        let principal = self.principal();
        let (key, role) = (principal.key(), principal.role());
        // Written without `format!`: each request of the modern era asks for it.
        [&**key, role, layer, name, speak, folder.as_deref().unwrap_or_default(), own].join("\0")
    }
}
