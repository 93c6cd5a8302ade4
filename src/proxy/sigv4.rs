//! Signs a request to Amazon (Signature Version 4), by Amazon's own crate.

use crate::domain::{Fault, FaultKind};
use crate::provider::credential::AwsKeys;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use std::time::SystemTime;

/// The service in the scope of a signature.
const SERVICE: &str = "bedrock";

/// What of a request is signed: its place, its type and its body.
pub(super) struct Signable<'a> {
    /// The `host` header.
    pub(super) authority: &'a str,
    /// Path and query as they are sent.
    pub(super) path: &'a str,
    pub(super) content_type: &'a str,
    pub(super) body: &'a [u8],
}

/// The headers that prove who asks: `x-amz-date`, `authorization`, and `x-amz-security-token` for temporary keys.
///
/// # Errors
/// `BadCredentials` when nothing can be signed with these keys.
pub(super) fn headers(
    keys: &AwsKeys,
    region: &str,
    request: &Signable<'_>,
    now: SystemTime,
) -> Result<Vec<(&'static str, String)>, Fault> {
    // The errors of the crate may quote what they are about.
    let fault = |_| Fault::new(FaultKind::BadCredentials, "the request cannot be signed with this key");
    let (secret, session) = (keys.secret_access_key.reveal(), keys.session_token.as_ref());
    let session = session.map(|session| session.reveal().to_owned());
    let identity = Credentials::new(&keys.access_key_id, secret, session, None, "configuration").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| fault(()))?
        .into();
    // Only the path and the host count, so the scheme may be any.
    let url = format!("https://{}{}", request.authority, request.path);
    let signed = [("host", request.authority), ("content-type", request.content_type)];
    let signable = SignableRequest::new("POST", &url, signed.into_iter(), SignableBody::Bytes(request.body));
    let signature = sign(signable.map_err(|_| fault(()))?, &params).map_err(|_| fault(()))?;
    let (instructions, _) = signature.into_parts();
    let known = ["authorization", "x-amz-date", "x-amz-security-token"];
    let name_of = |name: &str| known.into_iter().find(|known| *known == name);
    Ok(instructions.headers().filter_map(|(name, value)| Some((name_of(name)?, value.to_owned()))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hmac_sha256_by_hand as by_hand;
    use std::time::{Duration, UNIX_EPOCH};

    /// HMAC and the steps of the signature, written from Amazon's document ("Create a signed AWS API request") on nothing but SHA-256.
    mod hmac_sha256_by_hand {
        use sha2::{Digest, Sha256};

        fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
            let mut block = [0_u8; 64];
            block[..key.len()].copy_from_slice(key);
            let pad = |with: u8| block.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
            let inner = Sha256::digest([pad(0x36).as_slice(), message].concat());
            Sha256::digest([pad(0x5c).as_slice(), inner.as_slice()].concat()).to_vec()
        }

        pub fn signature(secret: &str, scope: [&str; 3], time: &str, canonical: &str) -> String {
            let [day, region, service] = scope;
            let to_sign = format!(
                "AWS4-HMAC-SHA256\n{time}\n{day}/{region}/{service}/aws4_request\n{}",
                hex::encode(Sha256::digest(canonical))
            );
            let mut key = hmac(format!("AWS4{secret}").as_bytes(), day.as_bytes());
            for part in [region, service, "aws4_request"] {
                key = hmac(&key, part.as_bytes());
            }
            hex::encode(hmac(&key, to_sign.as_bytes()))
        }
    }

    fn signed(keys: &str, path: &str) -> Vec<(&'static str, String)> {
        let request = Signable {
            authority: "bedrock-runtime.us-east-1.amazonaws.com",
            path,
            content_type: "application/json",
            body: b"{}",
        };
        // 2026-11-21T12:00:00Z.
        let now = UNIX_EPOCH + Duration::from_secs(1_795_262_400);
        headers(&AwsKeys::parse(keys).unwrap(), "us-east-1", &request, now).unwrap()
    }

    #[test]
    fn the_signature_is_the_one_that_amazons_document_describes() {
        let headers =
            signed("AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "/model/us.maker.name-v1%3A0/converse");
        // Each segment of the path is escaped once more in what is signed.
        let canonical = "POST\n/model/us.maker.name-v1%253A0/converse\n\ncontent-type:application/json\n\
            host:bedrock-runtime.us-east-1.amazonaws.com\nx-amz-date:20261121T120000Z\n\n\
            content-type;host;x-amz-date\n44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let signature = by_hand::signature(
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            ["20261121", "us-east-1", "bedrock"],
            "20261121T120000Z",
            canonical,
        );
        let find = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        assert_eq!(find("x-amz-date").as_deref(), Some("20261121T120000Z"));
        assert_eq!(
            find("authorization"),
            Some(format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261121/us-east-1/bedrock/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date, Signature={signature}"
            ))
        );
        assert_eq!(find("x-amz-security-token"), None);
    }

    #[test]
    fn temporary_keys_send_their_token() {
        let headers = signed("AKIDEXAMPLE:secret:session", "/model/m/converse");
        assert!(headers.contains(&("x-amz-security-token", "session".to_owned())), "{headers:?}");
    }
}
