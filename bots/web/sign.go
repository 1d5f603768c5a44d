package web

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"sync"
)

// What a signature is for is part of what is signed, so that one for a file
// can't be shown as a login.
const (
	forFile  = "file"
	forLogin = "login"
)

// signer signs with the fleet's key, so that what one process has signed is
// good in all. The key is asked for at first use, and again until the store
// has answered.
type signer struct {
	ask func(context.Context) ([]byte, error)
	mu  sync.Mutex
	key []byte
}

func (s *signer) sum(ctx context.Context, purpose, words string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.key == nil {
		ctx, cancel := context.WithTimeout(ctx, storeLimit)
		defer cancel()
		key, err := s.ask(ctx)
		if err != nil {
			return nil, err
		}
		s.key = key
	}
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte("threadbook web " + purpose + "\x00" + words))
	return mac.Sum(nil), nil
}

func (s *signer) sign(ctx context.Context, purpose, words string) (string, error) {
	sum, err := s.sum(ctx, purpose, words)
	return base64.RawURLEncoding.EncodeToString(sum), err
}

func (s *signer) check(ctx context.Context, purpose, words, signature string) (bool, error) {
	sum, err := s.sum(ctx, purpose, words)
	if err != nil {
		return false, err
	}
	got, err := base64.RawURLEncoding.DecodeString(signature)
	return err == nil && hmac.Equal(got, sum), nil
}
