// Package libbackup takes live point-in-time backups of QEMU guests.
//
// The names are those of the C library without prefix and noun. A call that can fail takes a context and returns an error that
// [errors.Is] compares with a code:
//
//	conn, err := libbackup.Open(ctx, libbackup.Text("qemu:///system"))
//	domain, err := conn.LookupByName(ctx, "web")
//	if errors.Is(err, libbackup.ErrorNoDomain) { … }
//
// When the context ends first, the call returns its error at once. What was asked is not undone by that: a backup whose begin
// was given up may run all the same; BackupInfo tells, and BackupStop with DomainBackupStopAbort ends it.
//
// Any value may be used by any goroutine. Texts that C lets be NULL are *string, see [Text]; an absent text that is returned is "".
package libbackup

/*
#cgo pkg-config: libbackup
#include "callbacks.h"

static char *parameter_text (const BakTypedParameter *p) { return p->value.s; }
static int parameter_int (const BakTypedParameter *p) { return p->value.i; }
static unsigned int parameter_uint (const BakTypedParameter *p) { return p->value.ui; }
static long long parameter_llong (const BakTypedParameter *p) { return p->value.l; }
static unsigned long long parameter_ullong (const BakTypedParameter *p) { return p->value.ul; }
static double parameter_double (const BakTypedParameter *p) { return p->value.d; }
static int parameter_boolean (const BakTypedParameter *p) { return p->value.b; }
*/
import "C"

import (
	"context"
	"runtime"
	"runtime/cgo"
	"strings"
	"sync"
	"unsafe"
)

// Text is a text where C lets be none.
func Text(text string) *string { return &text }

// Error says why a call failed: Code is what a program can act on, Message is for people.
type Error struct {
	Code    ErrorCode
	Message string
	cause   error
}

func (e *Error) Error() string { return e.Message }

// Is makes errors.Is (err, libbackup.ErrorNoDomain) work.
func (e *Error) Is(target error) bool {
	code, ok := target.(ErrorCode)
	return ok && code == e.Code
}

// Unwrap gives the context's error when that ended the call.
func (e *Error) Unwrap() error { return e.cause }

// Error gives the stable name of the code.
func (code ErrorCode) Error() string { return ErrorCodeToString(code) }

var errClosed = &Error{Code: ErrorInvalidArgument, Message: "the connection is closed"}

var errNUL = &Error{Code: ErrorInvalidArgument, Message: "a text with a NUL character"}

func takeError(e *C.BakError) error {
	defer C.bak_error_unref(e)
	return &Error{Code: ErrorCode(C.bak_error_get_code(e)), Message: goText(C.bak_error_get_message(e))}
}

// wait runs a call; when the context ends first the caller goes on, and what the call brings is let go by its finalizers.
func wait(ctx context.Context, call func() error) error {
	if ctx == nil || ctx.Done() == nil {
		return call()
	}
	if err := ctx.Err(); err != nil {
		return givenUp(err)
	}
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return givenUp(ctx.Err())
	}
}

func givenUp(err error) error {
	if err == context.DeadlineExceeded {
		return &Error{Code: ErrorTimeout, Message: "no answer before the deadline of the caller", cause: err}
	}
	return &Error{Code: ErrorAborted, Message: "given up by the caller", cause: err}
}

func goText(c *C.char) string {
	if c == nil {
		return ""
	}
	return C.GoString(c)
}

func takeText(c *C.char) string {
	defer C.bak_free(unsafe.Pointer(c))
	return goText(c)
}

// takeList takes the handles of a NULL-terminated array, and frees the array.
func takeList[H, T any](list **H, take func(*H) *T) []*T {
	if list == nil {
		return nil
	}
	defer C.bak_free(unsafe.Pointer(list))
	found := []*T{}
	for at := unsafe.Pointer(list); *(**H)(at) != nil; at = unsafe.Add(at, unsafe.Sizeof(at)) {
		found = append(found, take(*(**H)(at)))
	}
	return found
}

// arena holds what a call points to while it runs.
type arena struct {
	blocks  []unsafe.Pointer
	handles []cgo.Handle
	wrong   bool // a text that C would cut off
}

func (a *arena) free() {
	for _, block := range a.blocks {
		C.free(block)
	}
	for _, handle := range a.handles {
		handle.Delete()
	}
}

func (a *arena) memory(size int) unsafe.Pointer {
	block := C.calloc(1, C.size_t(size))
	a.blocks = append(a.blocks, block)
	return block
}

func (a *arena) text(text string) *C.char {
	a.wrong = a.wrong || strings.IndexByte(text, 0) >= 0
	c := C.CString(text)
	a.blocks = append(a.blocks, unsafe.Pointer(c))
	return c
}

func (a *arena) optionalText(text *string) *C.char {
	if text == nil {
		return nil
	}
	return a.text(*text)
}

// list is an array that ends with NULL; nil stays NULL.
func (a *arena) list(texts []string) **C.char {
	if texts == nil {
		return nil
	}
	array := (**C.char)(a.memory((len(texts) + 1) * int(unsafe.Sizeof(uintptr(0)))))
	for i, text := range texts {
		*(**C.char)(unsafe.Add(unsafe.Pointer(array), i*int(unsafe.Sizeof(uintptr(0))))) = a.text(text)
	}
	return array
}

func (a *arena) array(texts []string) **C.char { return a.list(texts) }

func (a *arena) numbers(values []int) *C.int {
	if len(values) == 0 {
		return nil
	}
	array := (*C.int)(a.memory(len(values) * C.sizeof_int))
	copied := unsafe.Slice(array, len(values))
	for i, value := range values {
		copied[i] = C.int(value)
	}
	return array
}

func (a *arena) handle(value any) cgo.Handle {
	handle := cgo.NewHandle(value)
	a.handles = append(a.handles, handle)
	return handle
}

// connectionState is a connection that may be closed while another goroutine calls.
type connectionState struct {
	lock sync.Mutex
	c    *C.BakConnection
}

func (s *connectionState) use() *C.BakConnection {
	s.lock.Lock()
	defer s.lock.Unlock()
	return C.bak_connection_ref(s.c)
}

func (s *connectionState) done(c *C.BakConnection) { C.bak_connection_unref(c) }

// Close lets go of the connection; it is closed when nothing that came from it is left. To close it twice does nothing.
func (h *Connection) Close() {
	h.lock.Lock()
	c := h.c
	h.c = nil
	h.lock.Unlock()
	C.bak_connection_unref(c)
}

func takeConnection(c *C.BakConnection) *Connection {
	if c == nil {
		return nil
	}
	h := &Connection{}
	h.c = c
	runtime.SetFinalizer(h, func(h *Connection) { go h.Close() })
	return h
}

func lendConnection(c *C.BakConnection, owner any) *Connection {
	return takeConnection(C.bak_connection_ref(c))
}

//export goBakFreeCallback
func goBakFreeCallback(opaque C.uintptr_t) { cgo.Handle(opaque).Delete() }

// JobStats are statistics of a job with libvirt's names.
type JobStats struct {
	Type   DomainJobType
	Params map[string]any // int, uint, int64, uint64, float64, bool or string
}

func parameter(p *C.BakTypedParameter) any {
	switch TypedParameterType(p._type) {
	case TypedParamInt:
		return int(C.parameter_int(p))
	case TypedParamUint:
		return uint(C.parameter_uint(p))
	case TypedParamLlong:
		return int64(C.parameter_llong(p))
	case TypedParamUllong:
		return uint64(C.parameter_ullong(p))
	case TypedParamDouble:
		return float64(C.parameter_double(p))
	case TypedParamBoolean:
		return C.parameter_boolean(p) != 0
	}
	return goText(C.parameter_text(p))
}

// GetJobStats gives statistics of the job that runs, or of the newest that has ended. Counterpart of virDomainGetJobStats().
func (h *Domain) GetJobStats(ctx context.Context, flags uint) (JobStats, error) {
	var found JobStats
	err := wait(ctx, func() error {
		defer runtime.KeepAlive(h)
		var e *C.BakError
		var kind, count C.int
		var params *C.BakTypedParameter
		C.bak_domain_get_job_stats(h.c, &kind, &params, &count, C.uint(flags), &e)
		if e != nil {
			return takeError(e)
		}
		defer C.bak_typed_params_free(params, count)
		found = JobStats{Type: DomainJobType(kind), Params: map[string]any{}}
		for _, p := range unsafe.Slice(params, int(count)) {
			p := p
			found.Params[C.GoString(&p.field[0])] = parameter(&p)
		}
		return nil
	})
	if err != nil {
		return JobStats{}, err
	}
	return found, nil
}

// Events sends what happens, of one guest or (nil) of all, until the context ends; then the channel is closed.
func (h *Connection) Events(ctx context.Context, domain *Domain, eventID EventID) (<-chan Event, error) {
	events := make(chan Event, 64)
	var running sync.RWMutex // held for writing once nobody may send any more
	number, err := h.DomainEventRegisterAny(ctx, domain, int(eventID), func(_ *Connection, _ *Domain, event Event) {
		running.RLock()
		defer running.RUnlock()
		select {
		case <-ctx.Done():
		default:
			select {
			case events <- event:
			case <-ctx.Done():
			}
		}
	})
	if err != nil {
		return nil, err
	}
	go func() {
		<-ctx.Done()
		_ = h.DomainEventDeregisterAny(context.Background(), number)
		running.Lock()
		close(events)
		running.Unlock()
	}()
	return events, nil
}
