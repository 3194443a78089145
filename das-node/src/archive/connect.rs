//! From options to an object store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use das_common::config::Secret;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use thiserror::Error;
use url::Url;

use super::http::Connector;
use crate::options::{GoogleCloudStorageOptions, NodeOptions, S3StorageOptions};

/// Why there is no archive.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// An option is wrong.
    #[error("--{option}: {reason}")]
    Option {
        /// Which.
        option: &'static str,
        /// Why.
        reason: String,
    },
}

/// An object store, and how it is spoken of.
pub(super) struct Connected {
    pub(super) store: Arc<dyn ObjectStore>,
    /// What names of objects begin with.
    pub(super) prefix: String,
    /// Where it is, without credentials.
    pub(super) name: String,
    /// Options to look at when it refuses.
    pub(super) options: &'static str,
    /// Nitro's server writes batches there in a form of its own.
    pub(super) printed: bool,
}

impl Connected {
    /// The option that the prefix is from.
    fn options_prefix(&self) -> &'static str {
        if self.options.starts_with("data-availability.s3-storage") {
            "data-availability.s3-storage.object-prefix"
        } else if self.options.starts_with("data-availability") {
            "data-availability.google-cloud-storage.object-prefix"
        } else {
            "archive.url"
        }
    }
}

/// Short repetitions for what may pass at once; longer ones are the queue's.
fn retries() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(50),
        max_backoff: Duration::from_millis(500),
        base: 2.0,
    };
    RetryConfig { backoff, max_retries: 1, retry_timeout: Duration::from_secs(5) }
}

/// The object store that the options name; `None`: there is none.
pub fn connect(options: &NodeOptions) -> Result<Option<super::Bucket>, ConnectError> {
    let data = &options.data_availability;
    let connected = if data.s3_storage.enable {
        s3(&data.s3_storage)?
    } else if data.google_cloud_storage.enable {
        google(&data.google_cloud_storage)?
    } else if !options.archive.url.is_empty() {
        by_url(&options.archive.url)?
    } else {
        return Ok(None);
    };
    if let Err(error) = object_store::path::Path::parse(format!("{}0", connected.prefix)) {
        let option = connected.options_prefix();
        return Err(ConnectError::Option { option, reason: error.to_string() });
    }
    let limits = super::ReadLimits {
        timeout: options.archive.read_timeout,
        write_timeout: options.archive.write_timeout,
        max_batch: options.limits.max_message_size.0.max(options.rpc_body_limit() as u64),
    };
    Ok(Some(super::Bucket::new(connected, limits)))
}

fn wrong(option: &'static str) -> impl Fn(object_store::Error) -> ConnectError {
    move |error| ConnectError::Option { option, reason: error.to_string() }
}

fn s3(options: &S3StorageOptions) -> Result<Connected, ConnectError> {
    let S3StorageOptions { bucket, endpoint, object_prefix, region, access_key, secret_key, .. } = options;
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_retry(retries())
        .with_http_connector(Connector);
    if !region.is_empty() {
        builder = builder.with_region(region);
    }
    if !access_key.is_empty() {
        builder = builder.with_access_key_id(access_key).with_secret_access_key(secret_key.expose());
    }
    if !endpoint.is_empty() {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    let store = builder.build().map_err(wrong("data-availability.s3-storage"))?;
    let place = if endpoint.is_empty() { String::new() } else { format!(" at {}", without_user(endpoint)) };
    Ok(Connected {
        store: Arc::new(store),
        prefix: object_prefix.clone(),
        name: format!("s3://{bucket}/{object_prefix}{place}"),
        options: "data-availability.s3-storage.bucket, .region, .endpoint, .access-key and .secret-key",
        printed: false,
    })
}

fn google(options: &GoogleCloudStorageOptions) -> Result<Connected, ConnectError> {
    let GoogleCloudStorageOptions { bucket, object_prefix, access_token, access_token_file, .. } = options;
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_retry(retries())
        .with_http_connector(Connector);
    if !Secret::is_empty(access_token) {
        builder = builder.with_service_account_key(access_token.expose());
    } else if !access_token_file.is_empty() {
        builder = builder.with_service_account_path(access_token_file);
    }
    let store = builder.build().map_err(wrong("data-availability.google-cloud-storage"))?;
    Ok(Connected {
        store: Arc::new(store),
        prefix: object_prefix.clone(),
        name: format!("gs://{bucket}/{object_prefix}"),
        options: "data-availability.google-cloud-storage.bucket, .access-token and .access-token-file",
        printed: true,
    })
}

fn by_url(text: &str) -> Result<Connected, ConnectError> {
    let option = "archive.url";
    let bad = |reason: String| ConnectError::Option { option, reason };
    let url =
        Url::parse(text).map_err(|error| bad(format!("{error}; give a URL such as s3://bucket/prefix")))?;
    let options =
        "archive.url, and the environment variables with the credentials (AWS_*, GOOGLE_*, AZURE_*)";
    let mut prefix = url.path().trim_matches('/').to_owned();
    if prefix.contains("//") {
        return Err(bad(format!("its path {prefix:?} has two slashes in a row")));
    }
    if !prefix.is_empty() {
        prefix.push('/');
    }
    let store: Arc<dyn ObjectStore> = match url.scheme() {
        "file" => return directory(&url),
        "s3" => {
            let builder = AmazonS3Builder::from_env().with_url(text).with_retry(retries());
            let builder = builder.with_http_connector(Connector);
            let plain = std::env::var("AWS_ENDPOINT_URL").or_else(|_| std::env::var("AWS_ENDPOINT"));
            let plain = plain.is_ok_and(|url| url.starts_with("http://"));
            Arc::new(builder.with_allow_http(plain).build().map_err(wrong(option))?)
        }
        "gs" => {
            let builder = GoogleCloudStorageBuilder::from_env().with_url(text).with_retry(retries());
            Arc::new(builder.with_http_connector(Connector).build().map_err(wrong(option))?)
        }
        "az" | "azure" => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(text).with_retry(retries());
            let plain = std::env::var("AZURE_ENDPOINT").is_ok_and(|url| url.starts_with("http://"));
            let builder = builder.with_http_connector(Connector).with_allow_http(plain);
            Arc::new(builder.build().map_err(wrong(option))?)
        }
        scheme => return Err(bad(format!("there is no {scheme}; the schemes are s3, gs, az and file"))),
    };
    Ok(Connected { store, prefix, name: without_user(text), options, printed: url.scheme() == "gs" })
}

fn directory(url: &Url) -> Result<Connected, ConnectError> {
    let option = "archive.url";
    let bad = |reason: String| ConnectError::Option { option, reason };
    let path =
        url.to_file_path().map_err(|()| bad("give file:///directory, with three slashes".to_owned()))?;
    if !Path::new(&path).is_dir() {
        return Err(bad(format!("{} is no directory", path.display())));
    }
    let store = LocalFileSystem::new_with_prefix(&path).map_err(wrong(option))?;
    Ok(Connected {
        // An object that was taken must survive a power cut, as it does at a provider.
        store: Arc::new(store.with_fsync(true)),
        prefix: String::new(),
        name: format!("file://{}", path.display()),
        options: "archive.url: the directory, who owns it, and whether its disk has room",
        printed: false,
    })
}

fn without_user(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return "(not a URL)".to_owned() };
    // They fail only where there can be none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string()
}
