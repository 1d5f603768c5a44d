package blobs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
)

const (
	// openTimeout bounds the first look into a bucket, tries and all.
	openTimeout = 30 * time.Second
	dialTimeout = 5 * time.Second
	// stallTimeout is how long a connection may carry nothing while a request
	// is under way. A server that commits a large upload needs a while.
	stallTimeout = time.Minute
	// requestTries is how often a request is made, with pauses of up to a second.
	requestTries = 4
	// roleTimeout bounds each question to the machine for a role's credentials:
	// where there is no such service its address may answer nothing at all.
	roleTimeout = 3 * time.Second
	awsEndpoint = "https://s3.amazonaws.com"
)

// address is where a bucket is.
type address struct {
	bucket, prefix string
	endpoint       *url.URL
	region         string
	pathStyle      bool
}

func (a address) String() string {
	return "the bucket " + a.bucket + " at " + a.endpoint.String()
}

// CheckAddress says what is wrong with the address of a bucket:
//
//	s3://bucket[/prefix][?endpoint=https://host:port][&region=R][&path-style=true]
//
// Without endpoint it is Amazon's; without region that of AWS_REGION or
// AWS_DEFAULT_REGION, else the bucket is asked; path-style puts the bucket's name
// behind the host's instead of before it, where an endpoint's own address doesn't
// tell. Credentials are those of AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
// AWS_SESSION_TOKEN, else of AWS_PROFILE in the files of Amazon's tools, else of
// the role of the pod or machine; none may stand in the address. The error's text
// shows no value that might be one.
func CheckAddress(where string) error {
	_, err := parseAddress(where)
	return err
}

func parseAddress(where string) (address, error) {
	u, err := url.Parse(where)
	if err != nil || u.Scheme != "s3" {
		return address{}, errors.New("it is no address that begins with s3://")
	}
	if u.User != nil {
		return address{}, errors.New("credentials belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, not into the address")
	}
	a := address{bucket: u.Host, prefix: strings.Trim(u.Path, "/")}
	if err := s3utils.CheckValidBucketNameStrict(a.bucket); err != nil {
		return address{}, errors.New("the bucket's name can't be one")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return address{}, errors.New("what is behind the question mark can't be read")
	}
	for name := range query {
		switch name {
		case "endpoint", "region", "path-style":
		default:
			return address{}, fmt.Errorf("there is no parameter %q, only endpoint, region and path-style", name)
		}
	}
	where = query.Get("endpoint")
	if where == "" {
		where = awsEndpoint
	}
	a.endpoint, err = url.Parse(where)
	if err != nil || a.endpoint.Host == "" || a.endpoint.Scheme != "https" && a.endpoint.Scheme != "http" ||
		strings.Trim(a.endpoint.Path, "/") != "" || a.endpoint.RawQuery != "" || a.endpoint.User != nil {
		return address{}, errors.New("the endpoint is not like https://host:port")
	}
	switch query.Get("path-style") {
	case "true":
		a.pathStyle = true
	case "", "false":
	default:
		return address{}, errors.New("path-style is neither true nor false")
	}
	for _, region := range []string{query.Get("region"), os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")} {
		if a.region == "" {
			a.region = region
		}
	}
	return a, nil
}

// newClient makes a client of the bucket's server. It asks the server nothing.
func (a address) newClient() (*minio.Client, error) {
	secure := a.endpoint.Scheme == "https"
	transport, err := minio.DefaultTransport(secure)
	if err != nil {
		return nil, err
	}
	transport.DialContext = dial
	transport.ResponseHeaderTimeout = stallTimeout
	creds := credentials.NewChainCredentials([]credentials.Provider{
		&credentials.EnvAWS{},
		&credentials.FileAWSCredentials{},
		&credentials.IAM{Client: &http.Client{Timeout: roleTimeout}},
	})
	value, err := creds.GetWithContext(&credentials.CredContext{Client: &http.Client{Transport: transport, Timeout: roleTimeout}})
	if err != nil || value.AccessKeyID == "" {
		return nil, errors.New("there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give this machine a role")
	}
	o := &minio.Options{Creds: creds, Secure: secure, Transport: transport, Region: a.region, MaxRetries: requestTries}
	if a.pathStyle {
		o.BucketLookup = minio.BucketLookupPath
	}
	return minio.New(a.endpoint.Host, o)
}

// dial makes a connection that breaks when nothing moves on it: a body that
// stops half-way would otherwise be waited for without end.
func dial(ctx context.Context, network, where string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: dialTimeout, KeepAlive: stallTimeout / 2}).DialContext(ctx, network, where)
	if err != nil {
		return nil, err
	}
	return stallConn{conn}, nil
}

// stallConn puts off the end of all reads and writes at each of them: one that
// only waits for the answer to a long upload is under way too.
type stallConn struct{ net.Conn }

func (c stallConn) Read(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(stallTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c stallConn) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(stallTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
