//! The reference server as rmcp sees it: each method handed to the module that knows about it.

#![expect(deprecated, reason = "logging/setLevel is deprecated, not gone: legacy clients use it")]

use std::{borrow::Cow, sync::Arc};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CancelTaskParams, CancelledNotificationParam,
        CompleteRequestParams, CompleteResult, CustomRequest, CustomResult, ErrorCode,
        GetPromptRequestParams, GetPromptResponse, GetTaskParams, GetTaskResult, Implementation,
        ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
        PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse,
        ServerCapabilities, ServerConfig, SetLevelRequestMethod, SetLevelRequestParams,
        SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
        UpdateTaskParams,
    },
    service::{NotificationContext, RequestContext, SubscriptionContext},
};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use crate::{
    call::Call,
    catalog, prompts,
    questions::is_modern,
    resources,
    state::{Change, Session, Shared, lock, log_rank},
};

/// One per stdio process, per legacy HTTP session and per modern HTTP request.
#[derive(Clone)]
pub(crate) struct ReferenceServer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Arc<Session>,
}

impl ReferenceServer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, session: Session::new() }
    }

    /// The page of `items` that the cursor names, and the cursor of the next.
    fn page<T>(
        &self,
        items: Vec<T>,
        request: Option<PaginatedRequestParams>,
    ) -> Result<(Vec<T>, Option<String>), ErrorData> {
        let cursor = request.and_then(|request| request.cursor);
        let start = match &cursor {
            None => 0,
            Some(cursor) => cursor
                .strip_prefix("from-")
                .and_then(|start| start.parse().ok())
                .filter(|start| *start <= items.len())
                .ok_or_else(|| ErrorData::invalid_params(format!("no cursor {cursor}"), None))?,
        };
        let size = self.shared.page_size.unwrap_or(usize::MAX).max(1);
        let end = start.saturating_add(size);
        let next = (end < items.len()).then(|| format!("from-{end}"));
        Ok((items.into_iter().skip(start).take(size).collect(), next))
    }
}

/// `ListToolsResult` and its like are four types without a trait in common.
macro_rules! listed {
    ($result:ident, $page:expr) => {{
        let (items, next) = $page?;
        let mut result = $result::with_all_items(items).with_ttl_ms(0);
        result.next_cursor = next;
        Ok(result)
    }};
}

impl ServerHandler for ReferenceServer {
    fn get_info(&self) -> ServerConfig {
        let versions = &self.shared.versions;
        let mut capabilities = ServerCapabilities::builder()
            .enable_completions()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .enable_tools()
            .enable_tool_list_changed()
            .build();
        capabilities.logging = Some(serde_json::Map::new());
        // An extension of the modern era, which a server of the other has never heard of.
        if versions.iter().any(|version| !version.has_initialize()) {
            let tasks = ServerCapabilities::builder().enable_tasks().build();
            capabilities.extensions = tasks.extensions;
        }
        let newest = versions.iter().rfind(|version| version.has_initialize()).or(versions.last());
        ServerConfig::new(capabilities)
            .with_server_info(
                Implementation::new("reference-backend", "1.0.0").with_title("Reference"),
            )
            .with_instructions("A server for tests. Nothing it says is true.")
            .with_protocol_version(newest.cloned().unwrap_or(ProtocolVersion::V_2024_11_05))
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        self.shared.versions.clone()
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        if self.session.peer.set(context.peer).is_ok() {
            self.shared.admit(&self.session);
        }
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        listed!(ListToolsResult, self.page(catalog::tools(&self.shared), request))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        catalog::tools(&self.shared).into_iter().find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        catalog::call(&Call { server: self.clone(), params, context }).await
    }

    async fn on_cancelled(
        &self,
        notification: CancelledNotificationParam,
        _context: NotificationContext<RoleServer>,
    ) {
        let seen = json!({ "requestId": notification.request_id, "reason": notification.reason });
        lock(&self.shared.cancellations).push(seen);
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        listed!(ListPromptsResult, self.page(prompts::prompts(&self.shared), request))
    }

    async fn get_prompt(
        &self,
        params: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        prompts::get(&self.shared, &params, &context).await
    }

    async fn complete(
        &self,
        params: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        Ok(prompts::complete(&params))
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        listed!(ListResourcesResult, self.page(resources::resources(), request))
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        listed!(ListResourceTemplatesResult, self.page(resources::templates(), request))
    }

    async fn read_resource(
        &self,
        params: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        if params.uri == resources::ASKING {
            return resources::ask_for(&params, &context).await;
        }
        Ok(resources::read(&self.shared, &params.uri)?.into())
    }

    async fn subscribe(
        &self,
        params: SubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        lock(&self.session.subscribed).insert(params.uri);
        Ok(())
    }

    async fn unsubscribe(
        &self,
        params: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        lock(&self.session.subscribed).remove(&params.uri);
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        self.shared.expect_listener();
        Some(requested.clone())
    }

    /// Forwards changes until the client ends the subscription, or its stdin. The sink drops what
    /// the client did not ask for and says so with an error, which is no concern here.
    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.shared.listener();
        let sink = subscription.sink();
        let forward = async {
            loop {
                let _ = match changes.recv().await {
                    Ok(Change::Tools) => sink.notify_tool_list_changed().await,
                    Ok(Change::Prompts) => sink.notify_prompt_list_changed().await,
                    Ok(Change::Resources) => sink.notify_resource_list_changed().await,
                    Ok(Change::Updated(uri)) => sink.notify_resource_updated(uri).await,
                    Err(RecvError::Lagged(_)) => Ok(()),
                    Err(RecvError::Closed) => return,
                };
            }
        };
        tokio::select! {
            () = forward => {}
            () = subscription.cancelled() => {}
            () = self.shared.ending.cancelled() => {}
        }
        Ok(())
    }

    async fn set_level(
        &self,
        params: SetLevelRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        if is_modern(&context) {
            return Err(ErrorData::method_not_found::<SetLevelRequestMethod>());
        }
        let level = json!(params.level);
        let rank = level.as_str().and_then(log_rank).unwrap_or(0);
        self.session.log_level.store(rank, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    async fn get_task(
        &self,
        params: GetTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.shared.jobs.get_task(&params.task_id).map(GetTaskResult::new)
    }

    async fn update_task(
        &self,
        params: UpdateTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.shared.jobs.update_task(&params.task_id, params.input_responses)
    }

    async fn cancel_task(
        &self,
        params: CancelTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.shared.jobs.cancel_task(&params.task_id)
    }

    /// A method no specification knows: returns its params and fields of its own.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        if request.method != "vendor/echo" {
            return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, request.method, None));
        }
        let params = request.params;
        let mut result = json!({ "params": params, "x-vendor": { "z": 1, "a": [1.0, null] } });
        if is_modern(&context) {
            result["resultType"] = "complete".into();
        }
        Ok(CustomResult::new(result))
    }
}
