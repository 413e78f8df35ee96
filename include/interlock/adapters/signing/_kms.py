"""A signing key that never leaves AWS KMS: ECDSA on the curve P-256 (key spec ``ECC_NIST_P256``, ``SIGN_VERIFY``).

KMS has Ed25519, too, and signs at most 4096 bytes with it; a manifest is longer. With ECDSA a digest is what is signed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from securesystemslib.signer import (  # type: ignore[attr-defined]  # its __init__ has no __all__
    Key,
    SecretsHandler,
    Signature,
    SSlibKey,
)
from securesystemslib.signer import Signer as SecureSigner  # type: ignore[attr-defined]

from interlock.domain.errors import AssetMissing, DigestMismatch, TransientError

ALGORITHM = "ECDSA_SHA_256"
MAX_MESSAGE_BYTES = 4096
"""Maximum bytes of a message for KMS; of larger messages it signs the digest."""
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the curve P-256: for each signature (r, s), (r, ORDER - s) is another."""
PASSING = ("ThrottlingException", "LimitExceededException", "KMSInternalException", "DependencyTimeoutException")


class KmsKey(SecureSigner):
    """A key in KMS, as securesystemslib signs with it.

    :param client: boto3's KMS client.
    :param key_id: key id, alias (``alias/…``), or the ARN of either.
    """

    def __init__(self, client: Any, key_id: str) -> None:
        self._client, self._key_id = client, key_id
        with _explained(key_id):
            public = load_der_public_key(client.get_public_key(KeyId=key_id)["PublicKey"])
        if not isinstance(public, EllipticCurvePublicKey) or not isinstance(public.curve, SECP256R1):
            raise _unfit(key_id, "is of another kind")
        self.key: EllipticCurvePublicKey = public
        self._public: SSlibKey = SSlibKey.from_crypto(public)

    @property
    def public_key(self) -> SSlibKey:
        """The public key."""
        return self._public

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> SecureSigner:
        """Refuse: a client is needed."""
        raise NotImplementedError("a key in KMS is opened with a client: see signing.load_signer")

    def sign(self, payload: bytes) -> Signature:
        """Have KMS sign bytes; DigestMismatch if the returned signature is not valid.

        Of the two valid numbers, the lower is used, so that a signature has only one valid form.
        """
        short = len(payload) <= MAX_MESSAGE_BYTES
        message = {"Message": payload, "MessageType": "RAW"}
        digest = {"Message": sha256(payload).digest(), "MessageType": "DIGEST"}
        with _explained(self._key_id):
            answer = self._client.sign(KeyId=self._key_id, SigningAlgorithm=ALGORITHM, **(message if short else digest))
        r, s = decode_dss_signature(answer["Signature"])
        signature = encode_dss_signature(r, min(s, ORDER - s))
        try:
            self.key.verify(signature, payload, ECDSA(SHA256()))
        except InvalidSignature as error:
            raise DigestMismatch(
                f"KMS returned a signature that is not valid for the key {self._key_id}.",
                rule="each signature is verified with the public key",
                who="the operators of this installation",
                next_step="check whether the alias was assigned to another key, and try again",
            ) from error
        return Signature(self._public.keyid, signature.hex())


@contextmanager
def _explained(key_id: str) -> Iterator[None]:
    """Convert boto3's errors to ours: try again, or a person has to act."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
        if code in PASSING or status >= 500:
            raise TransientError(f"KMS does not sign with {key_id} now: {error}", next_step="try again") from error
        raise _unfit(key_id, f"cannot be used: {error}") from error
    except (NoCredentialsError, NoRegionError) as error:
        raise _unfit(key_id, f"cannot be used: {error}") from error
    except BotoCoreError as error:
        raise TransientError(f"KMS cannot be reached for {key_id}: {error}", next_step="try again") from error


def _unfit(key_id: str, what: str) -> AssetMissing:
    return AssetMissing(
        f"The signing key {key_id} in KMS {what}.",
        rule="records are signed with a key of the spec ECC_NIST_P256 and the usage SIGN_VERIFY "
        "(kms:GetPublicKey and kms:Sign)",
        who="the operators of this installation",
        next_step="create such a key, allow its use, or correct the connection interlock_signing_key",
    )
