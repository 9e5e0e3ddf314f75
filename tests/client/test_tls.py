"""Certificates that both transports trust."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .drivers import DRIVERS, Run, call, driver, failure, get
from .server import Server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Create the files of a self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*form))
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def secure(certificate: tuple[Path, Path]) -> Iterator[tuple[Server, str]]:
    """Start a TLS server; return it and its CA bundle."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with Server(tls=context) as server:
        yield server, str(certificate[0])


def test_untrusted_certificate_is_tls_error_without_request(run: Run, secure: tuple[Server, str]) -> None:
    assert failure(run, get(secure[0].url, "tok")).kind == "tls"
    assert secure[0].asked == []


@pytest.mark.filterwarnings("ignore:Unverified HTTPS")
@pytest.mark.parametrize("name", DRIVERS)
@pytest.mark.parametrize("bundle", [True, False])
@pytest.mark.parametrize("set_elsewhere", [False, True])
def test_verify_overrides_the_environment(
    secure: tuple[Server, str],
    name: str,
    bundle: bool,
    set_elsewhere: bool,
    certificate: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if set_elsewhere:
        other = tmp_path / "empty.pem"
        other.write_text("")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    server, path = secure
    with driver(name, verify=path if bundle else False) as run:
        assert run(call(get(server.url, "tok"))).status == 200


@pytest.mark.parametrize("name", DRIVERS)
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_bundle_of_the_environment_is_trusted(
    secure: tuple[Server, str], name: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, path = secure
    monkeypatch.setenv(variable, path)
    with driver(name) as run:
        assert run(call(get(server.url, "tok"))).status == 200


def test_certificates_of_the_system_are_not_used(
    run: Run, secure: tuple[Server, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both drivers reach the same servers on an image without certificates."""
    monkeypatch.setenv("SSL_CERT_FILE", secure[1])
    assert failure(run, get(secure[0].url)).kind == "tls"


@pytest.mark.parametrize("name", DRIVERS)
def test_directory_of_certificates_is_trusted(secure: tuple[Server, str], name: str, tmp_path: Path) -> None:
    server, path = secure
    subject = x509.load_pem_x509_certificate(Path(path).read_bytes()).subject
    digest = hashlib.sha1(subject.public_bytes()[2:], usedforsecurity=False).digest()
    (tmp_path / f"{int.from_bytes(digest[:4], 'little'):08x}.0").write_bytes(Path(path).read_bytes())
    with driver(name, verify=str(tmp_path)) as run:
        assert run(call(get(server.url, "tok"))).status == 200


@pytest.mark.parametrize("name", DRIVERS)
@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
@pytest.mark.parametrize("by", ["verify", "environment"])
def test_unusable_bundle_is_tls_error_that_names_it(
    secure: tuple[Server, str],
    name: str,
    content: bytes | None,
    by: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_bytes(content)
    if by == "environment":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    with driver(name, verify=str(bundle) if by == "verify" else True) as run:
        error = failure(run, get(secure[0].url, "tok"))
    assert error.kind == "tls"
    assert f"the CA bundle {str(bundle)!r} " in str(error)
    assert secure[0].asked == []


@pytest.mark.parametrize("name", DRIVERS)
def test_renewed_bundle_is_read_by_the_next_transport(secure: tuple[Server, str], name: str, tmp_path: Path) -> None:
    server, path = secure
    bundle = tmp_path / "ca.pem"
    for content, trusted in ((Path(certifi.where()).read_bytes(), False), (Path(path).read_bytes(), True)):
        bundle.write_bytes(content)
        with driver(name, verify=str(bundle)) as run:
            if trusted:
                assert run(call(get(server.url))).status == 200
            else:
                assert failure(run, get(server.url)).kind == "tls"
