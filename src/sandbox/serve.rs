//! The accept loop. It owns the connections, so that they end with it, and it's here rather than
//! in `axum::serve` because a fault may want a connection closed without an answer.

use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, response::Response};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};
use tower::ServiceExt;

use super::routes::{self, App};

/// An extension of a response that must not be sent: the connection is to be closed instead.
#[derive(Clone, Copy, Debug)]
pub(super) struct CloseInstead;

/// Accepts connections for ever.
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
                    // Out of descriptors, most likely: others have to close first.
                    if !is_of_one_connection(&error) {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            },
            // Ended connections would pile up in the set otherwise.
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Whether the error is about the connection that would have been accepted, not about accepting.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Answers the requests of one connection until either side closes it.
async fn converse(stream: TcpStream, router: Router) {
    // Small answers must go out at once, or latencies measured here would be the kernel's.
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
            // Clients that leave in the middle are daily bread here.
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
        // The connection is dropped around this future before it could go on.
        std::future::pending::<()>().await;
    }
    Ok(response)
}
