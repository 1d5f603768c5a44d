package redisstore

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// ParseURL reads an address of Redis:
//
//	redis://[user:password@]host:port[/db]      rediss:// with TLS
//	unix:///path/to/redis.sock[?db=N]
//	redis-sentinel://[user:password@]host:port,host:port/db?master=NAME
//	redis://host:port?addr=host2:port&addr=…    several addresses: a cluster
func ParseURL(raw string) (*redis.UniversalOptions, error) {
	scheme, _, _ := strings.Cut(raw, "://")
	switch scheme {
	case "redis-sentinel":
		return parseSentinel(raw)
	case "redis", "rediss":
		o, err := redis.ParseClusterURL(raw)
		if err == nil && len(o.Addrs) > 1 {
			return &redis.UniversalOptions{Addrs: o.Addrs, Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig}, nil
		}
	}
	o, err := redis.ParseURL(raw)
	if err != nil {
		return nil, hideSecret(err, raw)
	}
	return &redis.UniversalOptions{Addrs: []string{o.Addr}, DB: o.DB,
		Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig}, nil
}

func parseSentinel(raw string) (*redis.UniversalOptions, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, hideSecret(err, raw)
	}
	o := &redis.UniversalOptions{MasterName: u.Query().Get("master")}
	if o.MasterName == "" {
		return nil, errors.New("?master= is missing: the name under which the sentinels know the primary")
	}
	if u.User != nil {
		o.Username = u.User.Username()
		o.Password, _ = u.User.Password()
	}
	o.Addrs = strings.Split(u.Host, ",")
	if db := strings.Trim(u.Path, "/"); db != "" {
		if o.DB, err = strconv.Atoi(db); err != nil {
			return nil, fmt.Errorf("the database %q is no number", db)
		}
	}
	return o, nil
}

// hideSecret keeps an address, which may hold a password, out of an error.
func hideSecret(err error, raw string) error {
	return errors.New(strings.ReplaceAll(err.Error(), raw, "(address)"))
}
