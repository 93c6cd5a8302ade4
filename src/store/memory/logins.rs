//! Sessions of a gateway that keeps nothing: there are no people, so all of them are the administrator's.

use crate::domain::secret::KeyHash;
use crate::store::ports::database::StoreError;
use crate::store::ports::logins::{Holder, LoggedIn, Login, Logins, Session};
use async_trait::async_trait;
use parking_lot::Mutex;

/// How many are remembered; the oldest go first.
const MOST: usize = 256;

/// Sessions in memory.
#[derive(Default)]
pub struct MemoryLogins {
    sessions: Mutex<Vec<Session>>,
}

#[async_trait]
impl Logins for MemoryLogins {
    async fn login(&self, _email: &str) -> Result<Option<Login>, StoreError> {
        Ok(None)
    }

    async fn set_password(&self, _person: &str, _password_hash: &str) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn begin_session(&self, session: &Session) -> Result<(), StoreError> {
        if !matches!(session.holder, Holder::Administrator(_)) {
            return Err(StoreError::Refused("there is no such person".to_owned()));
        }
        let mut sessions = self.sessions.lock();
        sessions.retain(|old| old.expires_at > session.created_at);
        if sessions.len() >= MOST {
            sessions.remove(0);
        }
        sessions.push(session.clone());
        Ok(())
    }

    async fn session(&self, hash: &KeyHash, now: u64) -> Result<Option<LoggedIn>, StoreError> {
        let sessions = self.sessions.lock();
        let found = sessions.iter().find(|session| session.hash == *hash && session.expires_at > now);
        Ok(found.map(|session| LoggedIn { session: session.clone(), person: None, memberships: Vec::new() }))
    }

    async fn end_session(&self, hash: &KeyHash) -> Result<(), StoreError> {
        self.sessions.lock().retain(|session| session.hash != *hash);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(text: &str, from: u64) -> Session {
        let hash = KeyHash::of(text.as_bytes());
        let holder = Holder::Administrator(KeyHash::of(b"token"));
        Session { hash, holder, address: "::1".to_owned(), created_at: from, expires_at: from + 10 }
    }

    #[tokio::test]
    async fn a_session_ends_in_time_and_by_hand_and_the_oldest_makes_room() {
        let (logins, one) = (MemoryLogins::default(), session("one", 5));
        logins.begin_session(&one).await.unwrap();
        assert_eq!(logins.session(&one.hash, 14).await.unwrap().map(|it| it.session), Some(one.clone()));
        assert_eq!(logins.session(&one.hash, 15).await.unwrap(), None);
        for number in 0..MOST {
            logins.begin_session(&session(&number.to_string(), 6)).await.unwrap();
        }
        assert_eq!(logins.session(&one.hash, 6).await.unwrap(), None);
        let last = session("0", 6);
        assert!(logins.session(&last.hash, 6).await.unwrap().is_some());
        logins.end_session(&last.hash).await.unwrap();
        assert_eq!(logins.session(&last.hash, 6).await.unwrap(), None);
        let person = Session { holder: Holder::Person("usr_1".into()), ..session("p", 6) };
        assert!(logins.begin_session(&person).await.is_err());
    }
}
