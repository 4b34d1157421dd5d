//! A router that knows its paths, so that each interior path can list its children.

pub(crate) mod conflict;
pub(crate) mod endpoint;
mod filter;
pub(crate) mod html;
pub(crate) mod index;
mod index_text;
pub(crate) mod listing;
pub(crate) mod negotiate;
pub(crate) mod route_tree;
pub(crate) mod sse;
#[cfg(feature = "typescript")]
pub(crate) mod typescript;
pub(crate) mod view;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, Route, get};
use axum::{Extension, Router};
use tower::util::MapRequestLayer;
use tower::{Layer, Service};

use crate::access::origin::{Origin, Origins};
#[cfg(feature = "gateway")]
use crate::gateway::Gateway;
use crate::site::conflict::{Paths, RouteConflict};
use crate::site::endpoint::Endpoint;
use crate::site::filter::Visibility;
use crate::site::listing::Listing;
use crate::site::route_tree::Node;
#[cfg(feature = "typescript")]
use crate::site::typescript::{Functions, TypeConflict};
use crate::site::view::View;

/// Builds an application's [`Router`] from paths. Each interior path without a route lists its children: over
/// WebSockets, native and virtual, as Server-Sent Events, and over plain HTTP as JSON or HTML.
///
/// ```
/// use axum::Router;
/// use axum::routing::{any, get};
/// use manysocket_server::{Endpoint, Listing, Site, WebSocketUpgrade};
///
/// # async fn room(upgrade: WebSocketUpgrade) -> axum::response::Response { upgrade.on_upgrade(async |_| {}) }
/// let rooms = Listing::new();
/// let data = Site::new()
///     .route("/geo/raster", get(|| async { "a raster" }))
///     .endpoint("/rooms/{room}", Endpoint::new(any(room)).title("A chat room").listing(rooms.clone()));
/// let site = Site::new().nest("/data", data);
/// rooms.insert("blue");
/// // `/` lists `data/`, `/data/` lists `geo/` and `rooms/`, `/data/rooms/` lists `blue`, until it is removed.
/// let app: Router = site.into_router();
/// ```
///
/// An index has two paths. At `/data/` it answers; from `/data` it redirects plain HTTP there, so that links resolve.
/// WebSockets get the list at both. The root is an index, too: if files are the fallback, add a route for `/`.
///
/// Like axum's, [`layer`](Site::layer), [`visible`](Site::visible) and [`allow_origin`](Site::allow_origin) apply to
/// routes added before the call, indexes included. Add fallbacks and other features of `Router` to the [finished
/// one](Site::into_router).
#[derive(Debug)]
#[must_use = "a site serves nothing until it is made into a router"]
pub struct Site<S = ()> {
    tree: Node,
    routes: Vec<SiteRoute<S>>,
    #[cfg(feature = "typescript")]
    functions: Functions,
}

#[derive(Debug)]
struct SiteRoute<S> {
    path: String,
    methods: MethodRouter<S>,
    is_index: bool,
}

impl<S: Clone + Send + Sync + 'static> Default for Site<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Clone + Send + Sync + 'static> Site<S> {
    /// Creates a site without routes.
    pub fn new() -> Self {
        Self {
            tree: Node::default(),
            routes: Vec::new(),
            #[cfg(feature = "typescript")]
            functions: Functions::default(),
        }
    }

    /// Adds a route, as [`Router::route`] does.
    pub fn route(mut self, path: &str, methods: MethodRouter<S>) -> Self {
        self.tree.insert(path);
        self.add(path.to_owned(), methods, false);
        self
    }

    /// Adds an endpoint: a route that describes itself to plain HTTP clients.
    ///
    /// # Panics
    /// Panics if the endpoint has a listing, but the path does not end in a parameter.
    pub fn endpoint(mut self, path: &str, endpoint: Endpoint<S>) -> Self {
        #[cfg(feature = "typescript")]
        let (mut endpoint, functions) = (endpoint, &mut self.functions);
        #[cfg(feature = "typescript")]
        if let Some(function) = endpoint.take_function() {
            functions.insert(path, function);
        }
        let (methods, listing) = endpoint.into_parts();
        if let Some(listing) = listing {
            self = self.listing(path, listing);
        }
        self.route(path, methods)
    }

    /// Sets the listing of a path's last parameter: `/games/{game}` lists its games at `/games/`.
    ///
    /// # Panics
    /// Panics if the path does not end in a parameter.
    pub fn listing(mut self, path: &str, names: Listing) -> Self {
        self.tree.list(path, names);
        self
    }

    /// Adds all routes of another site below a path. Handlers see the whole path of a request, unlike with
    /// [`Router::nest`].
    ///
    /// # Panics
    /// Panics if `prefix` does not begin with a slash.
    pub fn nest(mut self, prefix: &str, site: Self) -> Self {
        let prefix = prefix.trim_end_matches('/');
        assert!(
            prefix.starts_with('/'),
            "a site is nested below a path that begins with a slash, not {prefix:?}"
        );
        self.tree.graft(prefix, site.tree);
        #[cfg(feature = "typescript")]
        self.functions.graft(prefix, site.functions);
        for entry in site.routes {
            self.add(format!("{prefix}{}", entry.path), entry.methods, entry.is_index);
        }
        self
    }

    /// Adds all routes of another site. Their paths stay as they are; indexes list those of both.
    ///
    /// ```
    /// use axum::routing::get;
    /// use manysocket_server::Site;
    ///
    /// # fn main() -> Result<(), manysocket_server::RouteConflict> {
    /// let chat: Site = Site::new().route("/chat/{room}", get(|| async { "a room" }));
    /// let site = Site::new().route("/news", get(|| async { "news" })).merge(chat)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns a [`RouteConflict`] if a route of one site matches the same paths as one of the other, or if both have
    /// [layers](Site::layer) around the same index: only one of them could answer.
    pub fn merge(mut self, other: Self) -> Result<Self, RouteConflict> {
        let mut paths = Paths::default();
        for entry in self.routes.iter().filter(|entry| !entry.is_index) {
            let _ = paths.insert(&entry.path);
        }
        for SiteRoute { path, is_index, .. } in &other.routes {
            let own = self.routes.iter().find(|own| own.path == *path);
            if let Some(own) = own.filter(|own| own.is_index == *is_index) {
                return Err(if own.is_index {
                    RouteConflict::of_indexes(path)
                } else {
                    RouteConflict::of_routes(path, path)
                });
            }
            if !is_index
                && let Err(with) = paths.insert(path)
                && self.routes.iter().any(|own| own.path == with)
            {
                return Err(RouteConflict::of_routes(&with, path));
            }
        }
        self.tree.graft("", other.tree);
        #[cfg(feature = "typescript")]
        self.functions.graft("", other.functions);
        for entry in other.routes {
            self.add(entry.path, entry.methods, entry.is_index);
        }
        Ok(self)
    }

    /// Adds a gateway. Indexes list the gateway's prefix, but no paths below it.
    #[cfg(feature = "gateway")]
    pub fn gateway(self, gateway: Gateway) -> Self {
        gateway.routes().fold(self, |site, (path, methods)| site.route(&path, methods))
    }

    /// Adds a layer around all routes added so far, indexes included.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Route> + Clone + Send + Sync + 'static,
        L::Service: Service<Request> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request>>::Response: IntoResponse + 'static,
        <L::Service as Service<Request>>::Error: Into<Infallible> + 'static,
        <L::Service as Service<Request>>::Future: Send + 'static,
    {
        self.index();
        for entry in &mut self.routes {
            entry.methods = std::mem::take(&mut entry.methods).layer(layer.clone());
        }
        self
    }

    /// Hides children of indexes for which `may_open` returns false. `may_open` gets the request for the index and the
    /// path of the child; the path percent-encodes only the characters that it must.
    ///
    /// If several hooks are set, all must return true. The answer for one requester and one path should not change
    /// while the requester watches the index.
    ///
    /// ```
    /// use axum::http::header;
    /// use axum::routing::get;
    /// use manysocket_server::Site;
    ///
    /// let site: Site = Site::new()
    ///     .route("/admin/log", get(|| async { "log" }))
    ///     .route("/news", get(|| async { "news" }))
    ///     .visible(|request, path| {
    ///         !path.starts_with("/admin/") || request.headers.contains_key(header::AUTHORIZATION)
    ///     });
    /// ```
    pub fn visible(self, may_open: impl Fn(&Parts, &str) -> bool + Send + Sync + 'static) -> Self {
        let may_open = Arc::new(may_open);
        self.layer(MapRequestLayer::new(move |mut request: Request| {
            request.extensions_mut().get_or_insert_default::<Visibility>().0.push(may_open.clone());
            request
        }))
    }

    /// Allows pages of another [`Origin`] to open sockets whose handler checks origins, and to read indexes and event
    /// streams. Pages of the server's own origin, and of the origins that the surrounding
    /// [`Multiplexer`](crate::Multiplexer) allows, may do so already.
    pub fn allow_origin(self, origin: Origin) -> Self {
        let mut origins = Origins::default();
        origins.allow(origin);
        self.layer(MapRequestLayer::new(move |mut request: Request| {
            request.extensions_mut().get_or_insert_default::<Origins>().extend(&origins);
            request
        }))
    }

    /// Provides the handlers' state.
    pub fn with_state<S2>(self, state: S) -> Site<S2> {
        let routes = self.routes.into_iter().map(|SiteRoute { path, methods, is_index }| SiteRoute {
            path,
            methods: methods.with_state(state.clone()),
            is_index,
        });
        Site {
            tree: self.tree,
            routes: routes.collect(),
            #[cfg(feature = "typescript")]
            functions: self.functions,
        }
    }

    /// Returns a TypeScript module (`.d.ts`) whose interface `Functions` has the site's functions, as `rpc` in the page accepts it:
    /// `rpc<Functions>("/")`, or `rpc<Functions["rpc"]>("/rpc/")` for the functions below a path.
    ///
    /// It also exports the types of arguments and results. A function made with [`rpc::rpc`](crate::rpc::rpc()) instead of
    /// [`rpc::typed`](crate::rpc::typed()) accepts and returns `any`. The values of a path's parameter share a member that has the
    /// parameter's name in braces: `Functions["tanks"]["{tank}"]`. The module omits paths that no member of an object has in the
    /// page: those with a wildcard or an empty segment.
    ///
    /// Functions that return a [`Streamed`](crate::rpc::Streamed) return an `AsyncIterable`. Errors have no types in TypeScript.
    ///
    /// ```
    /// use manysocket_server::Site;
    /// use manysocket_server::rpc::typed;
    ///
    /// async fn add(left: f64, right: f64) -> f64 {
    ///     left + right
    /// }
    ///
    /// # fn main() -> Result<(), manysocket_server::TypeConflict> {
    /// let site: Site = Site::new().endpoint("/rpc/add", typed(add).arguments(["left", "right"]).endpoint());
    /// assert!(site.typescript()?.contains("add(left: number, right: number): number;"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns a [`TypeConflict`] if two different types have one name in TypeScript, or if a type is named `Functions`.
    #[cfg(feature = "typescript")]
    pub fn typescript(&self) -> Result<String, TypeConflict> {
        self.functions.module()
    }

    /// Returns the router, for layers, fallbacks, and for [`Multiplexer::serve`](crate::Multiplexer::serve).
    ///
    /// # Panics
    /// Panics where [`Site::try_into_router`] returns an error, and if two routes of one path have the same method.
    pub fn into_router(self) -> Router<S> {
        match self.try_into_router() {
            Ok(router) => router,
            Err(conflict) => panic!("{conflict}"),
        }
    }

    /// Returns the router as [`Site::into_router`] does.
    ///
    /// # Errors
    /// Returns a [`RouteConflict`] if two routes with different paths match the same, such as `/{user}` and `/{room}`.
    pub fn try_into_router(mut self) -> Result<Router<S>, RouteConflict> {
        let mut paths = Paths::default();
        for SiteRoute { path, .. } in self.routes.iter().filter(|entry| !entry.is_index) {
            // axum's router joins the methods of one path.
            if let Err(with) = paths.insert(path)
                && with != *path
            {
                return Err(RouteConflict::of_routes(&with, path));
            }
        }
        self.index();
        let Self { tree, routes, .. } = self;
        let mut views = HashMap::<String, Arc<View>>::new();
        // The root without its slash is an empty path, which axum accepts only in a nested site.
        let router = routes.into_iter().filter(|entry| !entry.path.is_empty()).fold(
            Router::new(),
            |router, SiteRoute { path, methods, is_index }| {
                let methods = if is_index {
                    // A path lists the same with and without a trailing slash.
                    let view = views.entry(path.trim_end_matches('/').to_owned());
                    methods
                        .layer(Extension(Arc::clone(view.or_insert_with(|| View::new(tree.entries(&path))))))
                } else {
                    methods
                };
                router.route(&path, methods)
            },
        );
        Ok(router)
    }

    /// Adds an index at each interior path without a route.
    fn index(&mut self) {
        for path in self.tree.interior() {
            // The second is a WebSocket over HTTP/2, where no multiplexer has made it a GET (RFC 8441).
            self.add(path, get(index::serve).connect(index::serve), true);
        }
    }

    /// Adds a route. An application's route replaces an index; an index replaces nothing.
    fn add(&mut self, path: String, methods: MethodRouter<S>, is_index: bool) {
        if is_index {
            if self.routes.iter().any(|entry| entry.path == path) {
                return;
            }
        } else {
            self.routes.retain(|entry| !(entry.is_index && entry.path == path));
        }
        self.routes.push(SiteRoute { path, methods, is_index });
    }
}

impl<S: Clone + Send + Sync + 'static> From<Site<S>> for Router<S> {
    fn from(site: Site<S>) -> Self {
        site.into_router()
    }
}
