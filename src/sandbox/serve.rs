//! The accept loop. It owns the connections, so they close when it ends. It replaces `axum::serve`
//! because a fault may have to close a connection without a response.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::app::App;
use super::exchange::CloseInstead;
use super::routes;

/// Accepts connections until the task is aborted.
pub(super) async fn serve(listener: TcpListener, app: Arc<App>) {
    let router = routes::router(Arc::clone(&app));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    app.count_connection();
                    connections.spawn(converse(stream, router.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    // The process is probably out of file descriptors, so wait until some are closed.
                    if !is_of_one_connection(&error) {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            },
            // Without this, closed connections would accumulate in the set.
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Returns whether the error concerns only the incoming connection and not the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Serves the requests of one connection until either side closes it.
async fn converse(stream: TcpStream, router: Router) {
    // Small responses must be sent immediately. Otherwise Nagle's algorithm would distort measured latencies.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "can't set TCP_NODELAY");
    }
    let close = Arc::new(Notify::new());
    let service = service_fn(|request: Request<Incoming>| {
        answer(router.clone(), request, Arc::clone(&close))
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = &mut connection => if let Err(error) = ended {
            // Clients often disconnect in the middle of a request, so this is not a warning.
            tracing::trace!(error, "a connection broke");
        },
        () = close.notified() => {}
    }
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    close: Arc<Notify>,
) -> Result<Response, Infallible> {
    let response = router.oneshot(request.map(Body::new)).await?;
    if response.extensions().get::<CloseInstead>().is_some() {
        close.notify_one();
        // The notification drops the connection, and this future with it.
        std::future::pending::<()>().await;
    }
    Ok(response)
}
