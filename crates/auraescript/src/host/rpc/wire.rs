//! A call's arguments and its end, on their way between the script and gRPC.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use rquickjs::{Ctx, Object, Value};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::super::text;
use crate::event_loop::Settle;
use crate::throw;

/// Where gRPC carries an error's details.
const DETAILS: &str = "grpc-status-details-bin";

/// The arguments of a call, as the SDK passes them.
pub(super) struct Request {
    pub(super) connection: u64,
    pub(super) path: String,
    /// In base64. Unset where messages follow.
    pub(super) message: Option<String>,
    pub(super) header: Vec<String>,
    pub(super) timeout: Option<Duration>,
}

impl<'js> rquickjs::FromJs<'js> for Request {
    fn from_js(ctx: &Ctx<'js>, value: Value<'js>) -> rquickjs::Result<Self> {
        let (connection, path, message, header, timeout): (f64, String, _, _, Option<f64>) = {
            let object = Object::from_js(ctx, value)?;
            (
                object.get("connection")?,
                object.get("path")?,
                object.get("message")?,
                object.get("header")?,
                object.get("timeoutMs")?,
            )
        };
        let timeout = timeout
            .map(|ms| Duration::try_from_secs_f64(ms.max(0.0) / 1000.0).unwrap_or(Duration::MAX))
            .filter(|timeout| *timeout < LONGEST_TIMEOUT);
        Ok(Self { connection: connection as u64, path, message, header, timeout })
    }
}

/// gRPC cannot say more, and nobody waits longer: such a call has no deadline.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(99_999_999);

impl Request {
    pub(super) fn message(&self, ctx: &Ctx<'_>) -> rquickjs::Result<Option<Bytes>> {
        let message = self.message.as_deref();
        Ok(message.map(|message| text::bytes(ctx, message)).transpose()?.map(Bytes::from))
    }

    pub(super) fn metadata(&self, ctx: &Ctx<'_>) -> rquickjs::Result<MetadataMap> {
        let mut headers = HeaderMap::new();
        for pair in self.header.chunks_exact(2) {
            let [name, value] = pair else { continue };
            let bad = |what: &dyn std::fmt::Display| {
                throw::error(ctx, "TypeError", &format!("the header `{name}` is not sent: {what}"))
            };
            headers.append(
                name.parse::<HeaderName>().map_err(|error| bad(&error))?,
                value.parse::<HeaderValue>().map_err(|error| bad(&error))?,
            );
        }
        Ok(MetadataMap::from_headers(headers))
    }
}

/// The end of a call that failed.
pub(super) fn refused(status: Status) -> Settle {
    Box::new(move |ctx| Ok(End::of(ctx, &status)?.into_value()))
}

/// How a call ended, for the script.
pub(super) struct End;

impl End {
    pub(super) fn success<'js>(
        ctx: &Ctx<'js>,
        trailers: &MetadataMap,
    ) -> rquickjs::Result<Object<'js>> {
        Self::make(ctx, Code::Ok, "", pairs(trailers))
    }

    fn of<'js>(ctx: &Ctx<'js>, status: &Status) -> rquickjs::Result<Object<'js>> {
        let mut trailer = pairs(status.metadata());
        if !status.details().is_empty() {
            trailer.extend([DETAILS.to_owned(), STANDARD_NO_PAD.encode(status.details())]);
        }
        Self::make(ctx, status.code(), status.message(), trailer)
    }

    fn make<'js>(
        ctx: &Ctx<'js>,
        code: Code,
        message: &str,
        trailer: Vec<String>,
    ) -> rquickjs::Result<Object<'js>> {
        let object = Object::new(ctx.clone())?;
        object.set("code", i32::from(code))?;
        object.set("message", message)?;
        object.set("trailer", trailer)?;
        object.set("header", Vec::<String>::new())?;
        Ok(object)
    }
}

/// Metadata as names and values in turn. What is not text was not made by gRPC, and is left out.
pub(super) fn pairs(metadata: &MetadataMap) -> Vec<String> {
    let headers = metadata.clone().into_headers();
    let mut pairs = Vec::with_capacity(headers.len() * 2);
    for (name, value) in &headers {
        if let Ok(value) = value.to_str() {
            pairs.extend([name.to_string(), value.to_owned()]);
        }
    }
    pairs
}
